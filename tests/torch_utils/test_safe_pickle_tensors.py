"""The closed unpickler: tensors, arrays and archives that lie about themselves."""

import collections
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from tests.helpers.pickles import P4, Call, loader
from torch_utils.safe_pickle import load_archive


@pytest.fixture
def load(tmp_path):
    return loader(tmp_path)


# Tensors and arrays that lie


def tensor_pickle(blob, offset=0, size=(2,), stride=(1,)):
    """Write a tensor by hand: `_rebuild_tensor_v2(storage, offset, size, stride, False, {})`."""

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (blob,)

    arguments = Storage(), offset, size, stride, False, collections.OrderedDict()
    return pickle.dumps(Call(torch._utils._rebuild_tensor_v2, *arguments), 4)


def float_blob(values):
    """Write the form of torch.save before zip archives by hand."""
    buffer = io.BytesIO()
    pickle.dump(0x1950A86A20F9469CFC6C, buffer, 2)
    pickle.dump(1001, buffer, 2)
    pickle.dump({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, buffer, 2)
    count = struct.pack("<B", len(values))
    identity = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    )
    buffer.write(b"\x80\x02" + identity + b"K" + count + b"NtQ.")
    pickle.dump(["0"], buffer, 2)
    buffer.write(struct.pack(f"<q{len(values)}f", len(values), *values))
    return buffer.getvalue()


def test_tensor_written_by_hand(load):
    result = load(tensor_pickle(float_blob([1, 2, 3, 4]), 1, (2, 2), (2, 0)))
    assert result.tolist() == [[2, 2], [4, 4]]


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (3, (2,), (1,)),
        (-1, (2,), (1,)),
        (0, (-2,), (1,)),
        (0, (2,), (-1,)),
        (0, (5,), (0,)),
        (0, (2**40,), (0,)),
        (0, (2, 2), (1,)),
        (0, (2,), (2**50,)),
        (2**70, (1,), (1,)),
        (0, (1,) * 100, (1,) * 100),
        (0, ("2",), (1,)),
    ],
)
def test_tensors_outside_their_storage_are_refused(load, offset, size, stride):
    with pytest.raises(ValueError, match="does not fit"):
        load(tensor_pickle(float_blob([1, 2, 3, 4]), offset, size, stride))


BLOB = float_blob([1, 2])
BLOBS = {
    "evil inside": (pickle.dumps(Call(os.system, "true"), 2), r"\.system"),
    "evil after the magic": (BLOB[:15] + pickle.dumps(Call(eval, "1"), 2), "eval"),
    "nested blob": (BLOB[:21] + tensor_pickle(BLOB), "_rebuild_tensor_v2|_load_from_bytes"),
    "other magic": (pickle.dumps(1, 2) + BLOB[15:], "version of torch.save"),
    "big endian": (BLOB.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"), "little"),
    "data missing": (BLOB[:-4], "declares 8 bytes and has 4"),
    "data beyond": (BLOB + b"1234", "declares 8 bytes and has 12"),
    "other count": (BLOB.replace(b"K\x02N", b"K\x03N"), "contradicts"),
    "huge count": (BLOB.replace(b"K\x02N", b"\x8a\x06\xff\xff\xff\xff\xff\x7fN"), "contradicts"),
    "other key": (BLOB.replace(b"X\x01\x00\x00\x000X", b"X\x01\x00\x00\x001X"), "contradicts"),
    "unknown class": (BLOB.replace(b"FloatStorage", b"EvilStorages"), "torch.EvilStorages"),
    "call of the class": (BLOB[:21] + b"\x80\x02ctorch\nFloatStorage\n)R.", "only known by name"),
    "zip archive": (b"PK\x03\x04" + bytes(50), "opcode"),
    "empty": (b"", "ends too early"),
}


@pytest.mark.parametrize("name", BLOBS)
def test_hostile_storages_are_refused(load, name):
    blob, reason = BLOBS[name]
    with pytest.raises(ValueError, match=rf"network\.pkl.*({reason})"):
        load(tensor_pickle(blob))


def test_one_storage_cannot_be_copied_without_end(load):
    blob = float_blob([0.0] * 200)
    storage = b"\x8c\x0dtorch.storage\x8c\x10_load_from_bytes\x93\x94"
    data = P4 + storage + b"B" + struct.pack("<I", len(blob)) + blob + b"\x85\x94("
    data += b"h\x00h\x01R" * 1000 + b"t."
    with pytest.raises(ValueError, match="unfolds to much more data"):
        load(data)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([print], dtype=object), "number type"),
        (np.array(["text"]), "number type"),
        (np.dtype([("a", "f4")]), "number type"),
        (np.array([(1,)], dtype=[("a", "f4")]), "number type"),
        (np.array([1 + 2j]), "number type"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "number type"),
        (np.ma.array([1]), "numpy.ma"),
    ],
    ids=str,
)
def test_arrays_of_other_things_are_refused(load, value, reason):
    with pytest.raises(ValueError, match=rf"network\.pkl.*{reason}"):
        load(pickle.dumps(value, 4))


def test_array_with_other_size_is_refused(load):
    data = pickle.dumps(np.zeros(7, np.float32), 4)
    assert data.count(b"K\x07\x85") == 1
    with pytest.raises(ValueError, match="shape, number type"):
        load(data.replace(b"K\x07\x85", b"K\x08\x85"))


def test_tensor_where_a_number_belongs_is_refused(load):
    # A comparison of a tensor with a number would have no truth value.
    state = (torch.ones(2), "<", None, None, None, -1, -1, 0)

    class Dtype:
        def __reduce__(self):
            return np.dtype, ("f4", False, True), state

    with pytest.raises(ValueError, match="plain number type"):
        load(pickle.dumps(Dtype(), 4))


# Archives of torch.save


@pytest.fixture
def archive(tmp_path):
    shared = torch.arange(6.0)
    content = {"a": shared, "view": shared[2:4], "n": {"list": [1, None, "x"]}, "e": torch.empty(0)}
    path = tmp_path / "archive.pkl"
    torch.save(content, path)
    return path


def rewrite(path, change):
    """Copy an archive, each entry through change(name, data) -> data, None to leave it out."""
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, data in entries.items():
            changed = change(name.split("/", 1)[1], data)
            if changed is not None:
                target.writestr(name, changed)


def test_archive_is_what_torch_loads(archive):
    ours, theirs = load_archive(archive), torch.load(archive, weights_only=True)
    assert ours["n"] == theirs["n"]
    for name in ("a", "view", "e"):
        assert torch.equal(ours[name], theirs[name])


def test_archive_with_code_is_refused(archive):
    evil = pickle.dumps(Call(os.system, "true"), 2)
    rewrite(archive, lambda name, data: evil if name == "data.pkl" else data)
    with pytest.raises(ValueError, match=r"archive\.pkl.*\.system"):
        load_archive(archive)


def test_archive_allows_less_than_torch(archive):
    bomb = pickle.dumps(Call(bytearray, 10**12), 2)
    rewrite(archive, lambda name, data: bomb if name == "data.pkl" else data)
    with pytest.raises(ValueError, match="bytearray"):
        load_archive(archive)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda name, data: None if name == "data.pkl" else data, "no data.pkl"),
        (lambda name, data: None if name == "data/0" else data, "entry is missing"),
        (
            lambda name, data: data[:-4] if name == "data/0" else data,
            "declares 24 bytes and has 20",
        ),
        (lambda name, data: b"big" if name == "byteorder" else data, "little-endian"),
        (lambda name, data: data[:-3] if name == "data.pkl" else data, "ends too early"),
    ],
)
def test_damaged_archives_are_refused(archive, change, reason):
    rewrite(archive, change)
    with pytest.raises(ValueError, match=rf"archive\.pkl.*{reason}"):
        load_archive(archive)


def test_compressed_archive_is_refused(archive):
    with zipfile.ZipFile(archive) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in entries.items():
            target.writestr(name, data)
    with pytest.raises(ValueError, match="compressed"):
        load_archive(archive)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_cut_archive_is_refused(archive, keep):
    data = archive.read_bytes()
    archive.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"archive\.pkl.*(damaged|cut)"):
        load_archive(archive)


def test_changed_bit_is_noticed(archive):
    data = archive.read_bytes()
    place = data.index(struct.pack("<f", 5.0))
    archive.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    with pytest.raises(ValueError, match=r"archive\.pkl.*damaged"):
        load_archive(archive)


def test_archive_of_a_state_dict(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    torch.save({"state_dict": module.state_dict()}, tmp_path / "archive.pkl")
    state = load_archive(tmp_path / "archive.pkl")["state_dict"]
    assert type(state) is dict
    assert state.keys() == module.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())


def test_other_state_of_a_dict_is_refused(tmp_path):
    content = collections.OrderedDict(a=1)
    content.attribute = 2
    torch.save(content, tmp_path / "archive.pkl")
    with pytest.raises(ValueError, match="it sets the state of a dict"):
        load_archive(tmp_path / "archive.pkl")
