"""A file under a second name."""

import os
import shutil
from pathlib import Path

from dnnlib import files


def place_file(source: Path, target: Path) -> bool:
    """Make `target` a hard link to `source`, or a copy where links are impossible.

    What is at `target` is replaced; `source` is never changed.

    Returns: whether it is a link.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)  # noqa: PTH200
    except OSError:  # another file system, or one without links
        with source.open("rb") as original, files.atomic_write(target) as copy:
            shutil.copyfileobj(original, copy)
        return False
    return True
