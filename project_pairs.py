"""Project real pairs, or images of one modality, into the latents of a generator."""

from functools import partial

from dnnlib.command import command, lazy
from projection.options import ProjectionOptions

EXAMPLES = r"""
  python project_pairs.py --network=network-snapshot-000100.pkl --data=DATASETS/faces \
      --outdir=out/projected
  python project_pairs.py --network=network-snapshot-000100.pkl --data=face.png --from=rgb \
      --outdir=out/face
  python project_pairs.py --network=network-snapshot-000100.pkl --data=DATASETS/faces \
      --encoder=out/encoder --steps=100 --interpreter=out/models --outdir=out/labelled
"""
EPILOG = """
Repeating a command continues it; torchrun shares the images among processes. The latents of an
image depend on network, options, its pixels and its name. `generate.py --projected-w` takes them.
"""

main = command(
    ProjectionOptions,
    partial(lazy("projection.jobs:prepare"), load_labeller=lazy("interpreter.labeller:Labeller")),
    examples=EXAMPLES,
    epilog=EPILOG,
)

if __name__ == "__main__":
    main()
