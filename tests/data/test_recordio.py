"""RecordIO against its layout, byte by byte."""

import struct

import numpy as np
import pytest

from data.recordio import Record, RecordReader, write_identities, write_record

MAGIC = struct.pack("<I", 0xCED7230A)


def write(folder, records):
    with (folder / "a.rec").open("wb") as rec, (folder / "a.idx").open("w") as idx:
        for record in records:
            write_record(rec, idx, record)
    return RecordReader(folder / "a.rec")


def test_bytes_of_a_record(tmp_path):
    write(tmp_path, [Record(7, (3.0,), b"abcde")])
    expected = MAGIC + struct.pack("<I", 24 + 5) + struct.pack("<IfQQ", 0, 3.0, 7, 0) + b"abcde"
    assert (tmp_path / "a.rec").read_bytes() == expected + b"\0" * 3
    assert (tmp_path / "a.idx").read_text() == "7\t0\n"


def test_bytes_of_a_list_of_labels(tmp_path):
    write(tmp_path, [Record(0, (11.0, 13.0), has_list=True)])
    body = struct.pack("<IfQQ", 2, 0.0, 0, 0) + struct.pack("<ff", 11, 13)
    assert (tmp_path / "a.rec").read_bytes() == MAGIC + struct.pack("<I", 32) + body


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 1000])
def test_records_come_back(tmp_path, size):
    content = np.random.default_rng(size).bytes(size)
    records = [Record(5, (2.0,), content), Record(6, (1.0, 2.0, 3.0), content, has_list=True)]
    reader = write(tmp_path, records)
    assert [reader.record(record.number) for record in records] == records


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("repeats", [1, 2])
def test_the_magic_number_inside_a_record(tmp_path, place, repeats):
    content = b"x" * place + MAGIC * repeats + b"yz"
    reader = write(tmp_path, [Record(1, (0.0,), content), Record(2, (1.0,), b"next")])
    assert reader.record(1).content == content
    assert reader.record(2).content == b"next"
    data = (tmp_path / "a.rec").read_bytes()
    found = [i for i in range(0, len(data), 4) if data[i : i + 4] == MAGIC]
    parts = 1 + repeats * (place % 4 == 0)
    assert len(found) == parts + 1  # a reader that looks for the number finds starts of parts only


def test_the_parts_of_a_split_record(tmp_path):
    write(tmp_path, [Record(1, (0.0,), b"1234" + MAGIC + b"56" + b"78" + MAGIC + b"9")])
    data, place, kinds = (tmp_path / "a.rec").read_bytes(), 0, []
    while place < len(data):
        assert data[place : place + 4] == MAGIC
        (word,) = struct.unpack_from("<I", data, place + 4)
        kinds.append((word >> 29, word & (2**29 - 1)))
        place += 8 + -(-kinds[-1][1] // 4) * 4
    assert kinds == [(1, 28), (2, 4), (3, 1)]


def test_people_are_laid_out_as_insightface_reads_them(tmp_path):
    people, contents = [], []
    for label, count in enumerate((2, 0, 3)):
        images = []
        for index in range(count):
            path = tmp_path / f"{label}_{index}.png"
            path.write_bytes(f"image {label} {index}".encode())
            images.append((f"p{label}/{index}.png", path))
            contents.append((float(label), path.read_bytes()))
        people.append(images)
    write_identities(tmp_path / "out", people, 112)
    reader = RecordReader(tmp_path / "out" / "train.rec")
    assert reader.record(0).labels == (6.0, 9.0)
    assert [(label, reader.read(str(n))) for n, label in reader.labels()] == contents
    spans = [reader.record(number).labels for number in (6, 7, 8)]
    assert spans == [(1.0, 3.0), (3.0, 3.0), (3.0, 6.0)]
    assert (tmp_path / "out" / "property").read_text() == "3,112,112\n"
    listed = (tmp_path / "out" / "train.lst").read_text().splitlines()
    assert listed[0] == "1\t0\tp0/0.png"
    assert len(listed) == 5


def test_without_a_first_record_of_ranges_all_are_images(tmp_path):
    reader = write(tmp_path, [Record(0, (4.0,), b"a"), Record(1, (5.0,), b"b")])
    assert [(reader.read(str(n)), label) for n, label in reader.labels()] == [(b"a", 4), (b"b", 5)]
    assert [reader.size(str(number)) for number in (0, 1)] == [36, 36]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:10], "record 1: the file ends in it"),
        (lambda data: b"junk" + data[4:], "record 1: no record begins at the position"),
        (lambda data: data[:4] + struct.pack("<I", 3) + data[8:], "of 3 bytes has no header"),
        (lambda data: data[:8] + b"\xff\0\0\0" + data[12:], "cannot have 255 labels"),
    ],
)
def test_damaged_files_are_named(tmp_path, change, message):
    write(tmp_path, [Record(1, (0.0,), b"abcd")])
    path = tmp_path / "a.rec"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        RecordReader(path).record(1)


def test_bad_indices_are_named(tmp_path):
    reader = write(tmp_path, [Record(1, (0.0,), b"abcd")])
    with pytest.raises(ValueError, match="record 2: not in the index"):
        reader.record(2)
    (tmp_path / "a.idx").write_text("1\t0\none\n")
    with pytest.raises(ValueError, match=r"a\.idx: line 2 must be two numbers, got 'one'"):
        RecordReader(tmp_path / "a.rec")
    (tmp_path / "a.idx").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.idx: no such file"):
        RecordReader(tmp_path / "a.rec")
