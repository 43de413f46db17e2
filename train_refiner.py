"""Train a network that makes rendered images more like real ones, or refine a data set with it."""

from dnnlib.command import command, lazy
from refinement.options import RefinementOptions

EXAMPLES = r"""
  python train_refiner.py --config=EXPERIMENTS/refinement_example/train.json \
      --data=DATASETS/plain_32 --real=DATASETS/example_32 --outdir=EXPERIMENTS/runs/refiner
  python train_refiner.py --refine=DATASETS/plain_32 \
      --refiner=EXPERIMENTS/runs/refiner/refiner.pt --outdir=DATASETS/refined_32
"""
EPILOG = """
The first trains on two data sets of pairs of one size; they need nothing else in common. The
second writes a data set with the source's names, masks and attributes. Repeating a command
continues it.
"""

main = command(RefinementOptions, lazy("refinement.jobs:prepare"), examples=EXAMPLES, epilog=EPILOG)

if __name__ == "__main__":
    main()
