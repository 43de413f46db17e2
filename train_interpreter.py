"""Train the pixel interpreter on annotated images, or write a labelled data set with it."""

from functools import partial

from dnnlib.command import command, lazy
from interpreter.options import InterpreterOptions

EXAMPLES = r"""
  python train_interpreter.py --exp=EXPERIMENTS/interpreter_example/train_datagan.json \
      --network=network-snapshot-000100.pkl
  python train_interpreter.py --exp=EXPERIMENTS/interpreter_example/generate.json \
      --generate-data --resume=out/models --num-sample=1000 --save-vis --drop-uncertain=10%
  torchrun --nproc-per-node=4 train_interpreter.py --exp=generate.json --generate-data \
      --resume=out/models --num-sample=100000 --archive=webdataset
"""
EPILOG = """
Repeating a command continues it. Sample i depends on network, models, options and i alone.
"""

main = command(
    InterpreterOptions,
    partial(
        lazy("interpreter.jobs:prepare"),
        load_filter=lazy("identities.filter_loading:load_sample_filter"),
    ),
    examples=EXAMPLES,
    epilog=EPILOG,
    ignored=["--upsample_threshold"],
)

if __name__ == "__main__":
    main()
