"""What a data set says about itself in its dataset_info.json and other records."""

import contextlib
from dataclasses import dataclass
from typing import Any

from data.class_list import MAX_CLASSES, ClassList, class_list_from_json
from data.storage import Directory, Folder

INFO_FILE = "dataset_info.json"
REPORT_FILE = "import_report.json"
SUMMARY = "summary.json"  # of a data set of new identities
FACE_CHECK_KEY = "face_check"
SPLITS = ("heldout", "test", "audit")  # folders of data sets of their own beside modalities

# The records of all writers of data sets; "finished" is false in them until everything is there.
_MADE_BY = {
    REPORT_FILE: "prepare_dataset.py import",
    SUMMARY: "generate_recognition_data.py",
    "filter_summary.json": "filter_dataset.py",
    INFO_FILE: "the command that made it",
}


@dataclass(frozen=True, kw_only=True)
class StatedClasses:
    """What a data set says of the classes in its masks."""

    count: int | None = None  # None where it says nothing
    names: tuple[str, ...] = ()  # empty where it does not name them
    classes: ClassList | None = None  # with colours; None where it does not have them


def read_classes(base: Folder) -> StatedClasses:
    """Return what the record in a data set, or above one of its splits, says.

    Raises: ValueError where the record cannot be read.
    """
    for folder in [base, *_above(base)]:
        if folder.exists(INFO_FILE):
            return parse_classes(folder.read_json(INFO_FILE), folder.describe(INFO_FILE))
    return StatedClasses()


def check_finished(base: Folder) -> None:
    """Refuse a data set that an interrupted command left, and its splits.

    Raises: ValueError naming the folder and the command that completes it.
    """
    for folder in [base, *(_above(base) if base.name in SPLITS else [])]:
        for record in filter(folder.exists, _MADE_BY):
            content = None
            with contextlib.suppress(ValueError):  # anybody's file of that name
                content = folder.read_json(record)
            is_ours = isinstance(content, dict) and "identity" in content
            if is_ours and content.get("finished") is False:
                raise ValueError(
                    f"{folder.describe()}: an unfinished data set, says its {record}; repeat "
                    f"{_MADE_BY[record]} with the same options, which completes it"
                )


def _above(base: Folder) -> list[Folder]:
    return [Directory(base.path.resolve().parent)] if isinstance(base, Directory) else []


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
