"""What a data set says about itself in its dataset_info.json."""

from pathlib import Path

from dnnlib.files import read_json

INFO_FILE = "dataset_info.json"
FACE_CHECK_KEY = "face_check"
FACE_CHECKS = ("none", "mtcnn")


def read_face_check(root: Path) -> str | None:
    """Return how images like a data set's are checked for faces.

    Args:
        root: folder of the data set.
    Returns: "none" where no detector is to judge them (drawings, eyes), "mtcnn" where every image
        was checked; None where nothing is recorded.
    Raises: ValueError where the record cannot be read or names another check.
    """
    file = root / INFO_FILE
    if not file.is_file():
        return None
    content = read_json(file)
    kind = content.get(FACE_CHECK_KEY) if isinstance(content, dict) else None
    if kind is not None and kind not in FACE_CHECKS:
        raise ValueError(
            f"{file}: {FACE_CHECK_KEY} must be one of {', '.join(FACE_CHECKS)}, got {kind!r}"
        )
    return kind
