"""Train a segmentation network on labelled images, generated or real, or measure a trained one."""

from dnnlib.command import command, lazy
from segmentation.options import SegmentationOptions

EXAMPLES = r"""
  python train_segmentation.py --config=EXPERIMENTS/segmentation_example/generated.json \
      --data=out/models/samples_3200 --test=DATASETS/example_32/test --outdir=out/segmenter
  python train_segmentation.py --evaluate=out/segmenter/segmenter.pth \
      --test=DATASETS/example_32/test --merge=face4 --outdir=out/measured
"""
EPILOG = """
A labelled data set is what train_interpreter.py --generate-data writes, or a folder with VIS, NIR
and masks. Repeating a command continues it.
"""

main = command(
    SegmentationOptions, lazy("segmentation.jobs:prepare"), examples=EXAMPLES, epilog=EPILOG
)

if __name__ == "__main__":
    main()
