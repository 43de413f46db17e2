"""What a data set says about itself in its dataset_info.json and other records."""

import contextlib
import logging
from dataclasses import dataclass
from typing import Any

from data.class_list import MAX_CLASSES, ClassList, class_list_from_json
from data.storage import Directory, Folder

INFO_FILE = "dataset_info.json"
FACE_CHECK_KEY = "face_check"
# The records of all writers of data sets; "finished" is false in them until everything is there.
RECORDS = (INFO_FILE, "import_report.json", "summary.json", "filter_summary.json")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StatedClasses:
    """What a data set says of the classes in its masks.

    Attributes:
        count: of them; None where it says nothing.
        names: of them; empty where it does not name them.
        classes: with colours; None where it does not have them.
    """

    count: int | None = None
    names: tuple[str, ...] = ()
    classes: ClassList | None = None


def read_classes(base: Folder) -> StatedClasses:
    """Return what the record in a data set, or above one of its splits, says.

    Raises: ValueError where the record cannot be read.
    """
    for folder in _folders(base):
        if folder.exists(INFO_FILE):
            return parse_classes(folder.read_json(INFO_FILE), folder.describe(INFO_FILE))
    return StatedClasses()


def warn_if_unfinished(base: Folder) -> None:
    """Say so where a record in a data set, or above one of its splits, is of unfinished work."""
    for folder in _folders(base):
        for name in filter(folder.exists, RECORDS):
            with contextlib.suppress(ValueError):  # anybody's file of that name
                content = folder.read_json(name)
                if isinstance(content, dict) and content.get("finished") is False:
                    where = folder.describe(name)
                    _logger.warning("%s: not finished; the command that made it continues", where)


def _folders(base: Folder) -> list[Folder]:
    return [base, *([Directory(base.path.resolve().parent)] if isinstance(base, Directory) else [])]


def parse_classes(info: Any, where: str) -> StatedClasses:
    """Return what the content of a dataset_info.json says; `where` is named in messages.

    Known are a class list under "classes", with or without colours, or its names under "names";
    and a number of classes with a palette, which the interpreter wrote once.
    """
    content = info if isinstance(info, dict) else {}
    classes, names, palette = (content.get(key) for key in ("classes", "names", "palette"))
    if isinstance(classes, list) and any(isinstance(c, dict) and "color" in c for c in classes):
        listed = class_list_from_json(classes, where)
        return StatedClasses(count=len(listed), names=listed.names, classes=listed)
    if isinstance(classes, list) and all(isinstance(c, dict) and "name" in c for c in classes):
        names = [entry["name"] for entry in classes]
    if isinstance(names, list) and names:
        return StatedClasses(count=len(names), names=tuple(map(str, names)))
    if type(classes) is not int or not 2 <= classes <= MAX_CLASSES + 1:
        return StatedClasses()
    if not isinstance(palette, list) or len(palette) < classes:
        return StatedClasses(count=classes)
    entries = [{"name": f"class {k}", "color": palette[k]} for k in range(classes)]
    return StatedClasses(count=classes, classes=class_list_from_json(entries, where))
