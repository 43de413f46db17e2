"""Compile one library with torch's extension loader; started as a process of its own.

Being a process of its own keeps the loader's switches, its output and CUDA_HOME, which it reads
when it is imported, out of the program that asks.
"""

import json
import sys


def main(order: str) -> None:
    """Build what the JSON text `order` describes, as `torch.utils.cpp_extension.load` reads it."""
    from torch.utils import cpp_extension  # noqa: PLC0415  # importing it looks for CUDA, and warns

    cpp_extension.load(**json.loads(order), is_python_module=False, verbose=True)


if __name__ == "__main__":
    main(sys.argv[1])
