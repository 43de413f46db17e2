"""Annotate images in the browser, with the interpreter's suggestions beside."""

from functools import partial

from annotator.options import AnnotatorOptions
from dnnlib.command import command, lazy

EXAMPLES = r"""
  python annotate.py --exp=EXPERIMENTS/my_faces
  python annotate.py --exp=EXPERIMENTS/interpreter_example/train_datagan.json \
      --network=network-snapshot-000100.pkl --open
  python annotate.py --drawn=out/annotate --classes=classes.json --annotations=out/painted
"""
EPILOG = """
Prints an address to open. Masks are saved after every stroke; finished ones are read by
preprocess_annotations.py and GIMP alike. Repeating the command continues.
"""

main = command(
    AnnotatorOptions,
    partial(
        lazy("annotator.jobs:prepare"),
        load_interpreter=lazy("interpreter.assistant:InterpreterAssistant"),
    ),
    examples=EXAMPLES,
    epilog=EPILOG,
)

if __name__ == "__main__":
    main()
