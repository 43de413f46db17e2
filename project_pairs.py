"""Project real pairs, or images of one modality, into the latents of a generator."""

from dnnlib.command import command, lazy
from projection.options import ProjectionOptions

EXAMPLES = r"""
  python project_pairs.py --network=network-snapshot-000100.pkl --data=DATASETS/faces \
      --outdir=out/projected
  python project_pairs.py --network=network-snapshot-000100.pkl --data=face.png --from=rgb \
      --outdir=out/face
"""
EPILOG = """
Repeating a command continues it; torchrun shares the images among processes. The latents of an
image depend on network, options and image alone. `generate.py --projected-w` takes them.
"""

main = command(ProjectionOptions, lazy("projection.jobs:prepare"), examples=EXAMPLES, epilog=EPILOG)

if __name__ == "__main__":
    main()
