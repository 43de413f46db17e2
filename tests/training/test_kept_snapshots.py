import math

import pytest

from dnnlib.files import write_json_lines
from training.task import remove_snapshots

NAMES = [f"network-snapshot-{kimg:06d}.pkl" for kimg in (1, 9, 17, 25)]
FID = [9.0, 2.0, 3.0, 4.0]


def kept(folder, keep, values=FID, metric="fid"):
    for name in NAMES:
        (folder / name).touch()
    (folder / "fakes000001.png").touch()
    rows = [
        {"snapshot_pkl": name, "results": {"fid": value}}
        for name, value in zip(NAMES, values, strict=True)
    ]
    write_json_lines(folder / "metric-kid.jsonl", [{**rows[0], "results": {"kid": 0.0}}])
    (folder / "metric-fid.jsonl").write_text("".join(f"{to_text(row)}\n" for row in rows))
    remove_snapshots(folder, keep, metric)
    assert (folder / "fakes000001.png").is_file()
    return [NAMES.index(path.name) for path in sorted(folder.glob("*.pkl"))]


def to_text(row):
    return str(row).replace("'", '"').replace("nan", "NaN")


@pytest.mark.parametrize(
    ("keep", "left"),
    [("all", [0, 1, 2, 3]), ("last", [3]), ("2", [2, 3]), ("9", [0, 1, 2, 3]), ("best", [1, 3])],
)
def test_what_stays(tmp_path, keep, left):
    assert kept(tmp_path, keep) == left


def test_a_value_that_is_not_finite_is_never_the_best(tmp_path):
    assert kept(tmp_path, "best", [math.nan, 2.0, 1.0, math.nan]) == [2, 3]


def test_without_a_value_all_stay(tmp_path):
    assert kept(tmp_path, "best", [math.nan] * 4) == [0, 1, 2, 3]
