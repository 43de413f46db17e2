"""Generate images, style mixing grids and videos from a snapshot of ours or a published one."""

from dnnlib.command import command, lazy
from networks.options import GenerationOptions

EXAMPLES = r"""
  python generate.py --network=network-snapshot-000100.pkl --seeds=0-9 --truncation=0.7 \
      --outdir=out
  python generate.py --network=network-snapshot-000100.pkl --seeds=1,5,6 --mix-seeds=2,3 \
      --mix-layers=0-6 --outdir=out/mix
  python generate.py --network=published.pkl --convert-to=ours.pkl
  python generate.py --network=ours.pkl --convert-to=generator.onnx --truncation=0.7
"""
EPILOG = """
Published pickles are read without running anything in them. Repeating a command gives the same
bytes on the same device.
"""

main = command(
    GenerationOptions,
    lazy("networks.generation:prepare"),
    examples=EXAMPLES,
    epilog=EPILOG,
    ignored=["--batch"],
)

if __name__ == "__main__":
    main()
