"""WebDataset shards."""

import tarfile

import pytest

from data.shards import ShardReader, write_shard

SAMPLES = [
    ("000000001", {"rgb.png": b"one", "json": b"{}"}),
    ("folder/000000002", {"rgb.png": b"two" * 1000, "cls": b"7"}),
    ("folder/3", {"png": b""}),
]


def write(path, samples=SAMPLES):
    with path.open("wb") as file:
        write_shard(file, samples)
    return path


def test_samples_come_back(tmp_path):
    reader = ShardReader([write(tmp_path / "a.tar"), write(tmp_path / "b.tar", SAMPLES[:1])])
    found = [
        (key, {ending: reader.read(name) for ending, name in names.items()})
        for key, names in reader.samples()
    ]
    assert found == [(f"a.tar/{key}", parts) for key, parts in SAMPLES] + [
        ("b.tar/000000001", SAMPLES[0][1])
    ]
    assert reader.size("a.tar/folder/000000002.rgb.png") == 3000


def test_equal_samples_give_equal_bytes(tmp_path):
    assert write(tmp_path / "a.tar").read_bytes() == write(tmp_path / "b.tar").read_bytes()


def test_others_read_them(tmp_path):
    with tarfile.open(write(tmp_path / "a.tar")) as archive:
        names = archive.getnames()
    assert names == [
        "000000001.rgb.png",
        "000000001.json",
        "folder/000000002.rgb.png",
        "folder/000000002.cls",
        "folder/3.png",
    ]


def test_keys_with_dots_would_be_cut(tmp_path):
    with pytest.raises(ValueError, match=r"must have no dot, got 'a\.b'"):
        write(tmp_path / "a.tar", [("a.b", {"png": b""})])


def test_damaged_shards_are_named(tmp_path):
    path = write(tmp_path / "a.tar")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"a\.tar: not a whole tar file"):
        ShardReader([path])
    path.write_bytes(b"nonsense" * 100)
    with pytest.raises(ValueError, match=r"a\.tar: not a whole tar file"):
        ShardReader([path])
    with pytest.raises(FileNotFoundError, match=r"b\.tar"):
        ShardReader([tmp_path / "b.tar"])
