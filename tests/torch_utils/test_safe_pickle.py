"""The closed unpickler: what CPython writes comes back, and nothing else is let in or run."""

import collections
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from tests.helpers import published
from tests.helpers.pickles import P4, Call, loader
from torch_utils import safe_pickle
from torch_utils.safe_pickle import PersistentObject, load_archive, load_pickle

PROTOCOLS = (2, 3, 4, 5)
REFUSED = r"^[^\n]*network\.pkl: the pickle is refused: [^\n]*$"
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8")


@pytest.fixture
def load(tmp_path):
    return loader(tmp_path)


# What comes back


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        255,
        70000,
        -(2**31),
        2**80,
        1.5,
        float("inf"),
        "",
        "plain",
        "größer 目" * 100,
        b"\x00\xff" * 200,
        (),
        (1,),
        (1, "a"),
        (1, 2, 3),
        tuple(range(2000)),
        [],
        [1, [2, [3]]],
        {"a": {"b": (None, [True, False])}},
        {str(n): n for n in range(2000)},
        {"a", "b"},
        set(),
    ],
    ids=lambda value: type(value).__name__,  # a set's repr differs between test processes
)
def test_plain_values_come_back(load, value, protocol):
    result = load(pickle.dumps(value, protocol=protocol))
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_values_stay_equal_and_dict_classes_become_dicts(load, protocol):
    shared = ["x"]
    value = {
        "first": shared,
        "second": shared,
        "ordered": collections.OrderedDict(a=1),
        "easy": published.EasyDict(b=published.EasyDict(c=2)),
    }
    result = load(published.dumps(value, protocol))
    expected = {"first": ["x"], "second": ["x"], "ordered": {"a": 1}, "easy": {"b": {"c": 2}}}
    assert result == expected
    assert {type(entry) for entry in result.values()} == {list, dict}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_come_back(load, dtype, protocol):
    base = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, dtype))
    tensors = [base, base.transpose(0, 2), base[1, 1:], base[0, 0, 0], base[:0], base[::2, :, 1]]
    for result, tensor in zip(load(pickle.dumps(tensors, protocol)), tensors, strict=True):
        assert torch.equal(result, tensor)
        assert result.dtype == tensor.dtype


def test_parameters_come_back_as_tensors(load):
    parameter = torch.nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(0)))
    result = load(pickle.dumps({"p": parameter}, 4))["p"]
    assert type(result) is torch.Tensor
    assert torch.equal(result, parameter.detach())


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i8", "|u1", "|b1"])
def test_arrays_and_scalars_come_back(load, dtype, protocol):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    values = [array, np.asfortranarray(array), array[0], array[0, 1], np.array(array[0, 2])]
    for result, value in zip(load(pickle.dumps(values, protocol)), values, strict=True):
        assert np.array_equal(result, value)
        assert np.shape(result) == np.shape(value)


def test_old_and_new_numpy_names(load):
    data = pickle.dumps([np.float64(0.5), np.arange(3)], 2)
    assert b"numpy._core.multiarray" in data
    old = load(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert old[0] == 0.5
    assert old[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_persistent_objects_come_back_without_running_their_source(load, protocol):
    inner = published.Persistent("Layer", size=3)
    data = published.dumps({"G": published.Persistent("Generator", inner=inner)}, protocol)
    assert published.EVIL_SOURCE.encode() in data
    result = load(data)["G"]
    assert isinstance(result, PersistentObject)
    assert result.class_name == "Generator"
    assert result.state["inner"].state == {"size": 3}


# What is refused, by name


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {marker}",), f"{os.system.__module__}.system"),
        (eval, ("open('{marker}', 'w')",), "eval"),
        (exec, ("open('{marker}', 'w')",), "exec"),
        (getattr, (dict, "__init__"), "getattr"),
        (__import__, ("os",), "__import__"),
        (open, ("{marker}", "w"), "io.open"),
        (bytearray, (10,), "bytearray"),
        (torch.load, ("{marker}",), "torch.serialization.load"),
        (np.load, ("{marker}",), "numpy.load"),
        (collections.deque, ((1,),), "collections.deque"),
        (torch.zeros, (10**12,), "getattr"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_calls_are_refused_by_name(load, tmp_path, function, arguments, name, protocol):
    marker = tmp_path / "marker"
    arguments = [a.format(marker=marker) if isinstance(a, str) else a for a in arguments]
    with pytest.raises(ValueError, match=rf"network\.pkl.*{name}"):
        load(pickle.dumps({"G": [Call(function, *arguments)]}, protocol))
    assert not marker.exists()


DICT_CLASS = b"ccollections\nOrderedDict\n"
TEXT_A = b"\x8c\x01a"
LAUGHS = b"()\x94" + b"".join(b"(" + 10 * bytes([ord("h"), n]) + b"t\x94" for n in range(30))
HOSTILE = {
    "global by stack": b"\x8c\x02os\x8c\x06system\x93.",
    "attribute chain": b"\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
    "chain into globals": b"\x8c\x05numpy\x8c\x0fos.path.os.exec\x93.",
    "builtins": b"cbuiltins\neval\n.",
    "python 2 builtins": b"c__builtin__\ngetattr\n.",
    "name that is no text": b"K\x01K\x02\x93.",
    "endless name": b"c" + b"a" * 10_000,
    "unhashable name": b"]]\x93.",
    "call of a value": TEXT_A + b")R.",
    "call of a list": b"])R.",
    "call of an inert call": b"cnumpy\ndtype\n)R)R.",
    "call with many arguments": b"cnumpy\ndtype\n(" + b"N" * 100 + b"tR.",
    "call without tuple": DICT_CLASS + b"]R.",
    "dict with arguments": DICT_CLASS + b"K\x01\x85R.",
    "new dict with arguments": DICT_CLASS + b"]" + TEXT_A + b")\x86a\x85R.",
    "build on a dict": b"}}b.",
    "build on a list": b"]}b.",
    "build on a class": DICT_CLASS + b"}b.",
    "build with slots on a class": b"cnumpy\ndtype\nN}" + TEXT_A + b"Ns\x86b.",
    "build on a dict class": DICT_CLASS + b")R}" + TEXT_A + b"Nsb.",
    "a class as a value": DICT_CLASS + b".",
    "a class in a list": b"]" + DICT_CLASS + b"a.",
    "INST": b"(iposix\nsystem\n.",
    "OBJ": b"(" + DICT_CLASS + b"o.",
    "NEWOBJ_EX": DICT_CLASS + b")}\x92.",
    "EXT1": b"\x82\x01.",
    "EXT4": b"\x84\x01\x00\x00\x00.",
    "persistent id": TEXT_A + b"Q.",
    "persistent id as text": b"Pid\n.",
    "out-of-band buffer": b"\x97.",
    "bytearray": b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a.",
    "huge bytearray": b"\x96" + b"\xff" * 7 + b"\x7f.",
    "duplicate": b"]22.",
    "huge integer": b"\x8b\xff\xff\xff\x7f.",
    "huge text": b"\x8d" + b"\xff" * 7 + b"\x7fabc.",
    "huge bytes": b"\x8e" + b"\xff" * 7 + b"\x7fabc.",
    "negative bytes": b"T\xff\xff\xff\xffab.",
    "huge memo index": b"Nr\xff\xff\xff\x07.",
    "huge memo index as text": b"Np100000000\n.",
    "huge frame": b"\x95" + b"\xff" * 7 + b"\x7fN",
    "no stop": b"N",
    "stop at once": b".",
    "missing mark": b"t.",
    "empty stack": b"\x85.",
    "put of nothing": b"q\x00.",
    "memo that is empty": b"h\x05.",
    "newer protocol": b"\x80\x09N.",
    "unknown opcode": b"\xfe.",
    "append to text": TEXT_A + b"Na.",
    "append to a call": b"cnumpy\ndtype\n)RNa.",
    "items of a list": b"]" + TEXT_A + b"Ns.",
    "items of a call": b"cnumpy\ndtype\n)R" + TEXT_A + b"Ns.",
    "half an item": b"}(" + TEXT_A + b"u.",
    "entries of a list": b"](\x8c\x01a\x90.",
    "number as key": b"}K\x01Ns.",
    "large number as key": b"}\x8a\x01\x01Ns.",
    "tuple as key": b"})Ns.",
    "tuple as key by the memo": b")\x94}(" + TEXT_A + b"Nh\x00Nu.",
    "exponential key": LAUGHS + b"0}h\x1eNs.",
    "exponential member": b"\x8f(" + LAUGHS + b"\x90.",
    "number in a set": b"\x8f(K\x01\x90.",
    "set of tuples": b"c__builtin__\nset\n](" + LAUGHS + b"e\x85R.",
    "text that is not UTF-8": b"\x8c\x01\xff.",
    "list in itself": b"]\x94h\x00a.",
    "dict in itself": b"}\x94" + TEXT_A + b"h\x00s.",
    "tuple in itself": b"]\x94h\x00\x85a.",
    "call in itself": b"cdnnlib.tflib.network\nNetwork\n)\x81\x94}" + TEXT_A + b"h\x00sb.",
    "deep nesting": b")" + b"\x85" * 100_000 + b".",
    "deep lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep through the memo": b")" + b"\x85" * 70 + b"\x94]h\x00" + b"\x85" * 50 + b"a\x86.",
    "billion laughs": LAUGHS + b"t.",
    "empty": b"",
    "plain text": b"plain text",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_in_little_memory(load, name):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=REFUSED):
            load(P4 + HOSTILE[name])
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_number_of_opcodes_is_bounded(load, monkeypatch):
    monkeypatch.setattr(safe_pickle, "MAX_OPCODES", 1000)
    assert len(load(P4 + b"](" + b"N" * 900 + b"e.")) == 900
    with pytest.raises(ValueError, match="1000 opcodes"):
        load(P4 + b"](" + b"N" * 1000 + b"e.")


def test_missing_file(tmp_path):
    for read in (load_pickle, load_archive):
        with pytest.raises(FileNotFoundError, match="absent"):
            read(tmp_path / "absent.pkl")


def test_damaged_bytes_never_raise_anything_else(load):
    tree = published.module("Generator", {"weight": torch.ones(2)}, size=np.float64(1))
    values = [published.dumps({"G": tree}, 4), pickle.dumps([np.arange(3), {"a"}, (1, 2)], 2)]
    random_bytes = np.random.RandomState(0)
    messages = []
    for _ in range(600):
        data = bytearray(values[random_bytes.randint(len(values))])
        for _ in range(random_bytes.randint(1, 4)):
            data[random_bytes.randint(len(data))] = random_bytes.randint(256)
        if random_bytes.rand() < 0.2:
            del data[random_bytes.randint(len(data)) :]
        try:
            load(bytes(data))
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all("network.pkl" in message for message in messages)


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
    with pytest.raises(ValueError, match=REFUSED):
        load(tensor_pickle(float_blob([1, 2, 3, 4]), offset, size, stride))


BLOB = float_blob([1, 2])
BLOBS = {
    "evil inside": pickle.dumps(Call(os.system, "true"), 2),
    "evil after the magic": BLOB[:15] + pickle.dumps(Call(eval, "1"), 2),
    "nested blob": BLOB[:21] + tensor_pickle(BLOB),
    "other magic": pickle.dumps(1, 2) + BLOB[15:],
    "big endian": BLOB.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
    "data missing": BLOB[:-4],
    "data beyond": BLOB + b"1234",
    "other count": BLOB.replace(b"K\x02N", b"K\x03N"),
    "huge count": BLOB.replace(b"K\x02N", b"\x8a\x06\xff\xff\xff\xff\xff\x7fN"),
    "negative count": BLOB.replace(b"K\x02N", b"\x8a\x01\xffN"),
    "other key": BLOB.replace(b"X\x01\x00\x00\x000X", b"X\x01\x00\x00\x001X"),
    "unknown class": BLOB.replace(b"FloatStorage", b"EvilStorages"),
    "call of the class": BLOB[:21] + b"\x80\x02ctorch\nFloatStorage\n)R.",
    "zip archive": b"PK\x03\x04" + bytes(50),
    "empty": b"",
}


@pytest.mark.parametrize("name", BLOBS)
def test_hostile_storages_are_refused(load, tmp_path, name):
    with pytest.raises(ValueError, match=REFUSED):
        load(tensor_pickle(BLOBS[name]))
    (tmp_path / "network.pkl").write_bytes(BLOBS[name])
    with pytest.raises(
        ValueError, match=r"^[^\n]*network\.pkl: not a readable checkpoint: [^\n]*$"
    ):
        load_archive(tmp_path / "network.pkl")


def test_one_storage_cannot_be_copied_without_end(load):
    blob = float_blob([0.0] * 200)
    storage = b"\x8c\x0dtorch.storage\x8c\x10_load_from_bytes\x93\x94"
    data = P4 + storage + b"B" + struct.pack("<I", len(blob)) + blob + b"\x85\x94("
    data += b"h\x00h\x01R" * 1000 + b"t."
    with pytest.raises(ValueError, match=REFUSED):
        load(data)


@pytest.mark.parametrize(
    "value",
    [
        np.array([print], dtype=object),
        np.array(["text"]),
        np.dtype([("a", "f4")]),
        np.array([(1,)], dtype=[("a", "f4")]),
        np.array([1 + 2j]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.ma.array([1]),
    ],
    ids=str,
)
def test_arrays_of_other_things_are_refused(load, value):
    with pytest.raises(ValueError, match=REFUSED):
        load(pickle.dumps(value, 4))


def test_array_with_other_size_is_refused(load):
    data = pickle.dumps(np.zeros(7, np.float32), 4)
    assert data.count(b"K\x07\x85") == 1
    with pytest.raises(ValueError, match=REFUSED):
        load(data.replace(b"K\x07\x85", b"K\x08\x85"))


def test_tensor_where_a_number_belongs_is_refused(load):
    # A comparison of a tensor with a number would have no truth value.
    state = (torch.ones(2), "<", None, None, None, -1, -1, 0)

    class Dtype:
        def __reduce__(self):
            return np.dtype, ("f4", False, True), state

    with pytest.raises(ValueError, match=REFUSED):
        load(pickle.dumps(Dtype(), 4))


# Files of torch.save

IS_ZIP = pytest.mark.parametrize("is_zip", [True, False])


def save(path, content, *, is_zip=True):
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    return path


@pytest.fixture
def archive(tmp_path):
    shared = torch.arange(6.0)
    content = {"a": shared, "view": shared[2:4], "n": {"list": [1, None, "x"]}, "e": torch.empty(0)}
    return save(tmp_path / "archive.pkl", content)


@IS_ZIP
def test_archive_is_what_was_saved(archive, is_zip):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    content = {
        **torch.load(archive),
        "state_dict": module.state_dict(),
        "p": [*module.parameters()],
    }
    ours = load_archive(save(archive, content, is_zip=is_zip))
    assert ours["n"] == content["n"]
    assert ours["state_dict"].keys() == content["state_dict"].keys()
    pairs = [(ours[name], content[name]) for name in ("a", "view", "e")]
    pairs += zip(ours["p"], content["p"], strict=True)
    pairs += zip(ours["state_dict"].values(), content["state_dict"].values(), strict=True)
    assert all(torch.equal(found, saved) for found, saved in pairs)


@IS_ZIP
@pytest.mark.parametrize(
    "evil",
    [
        Call(os.system, "true"),
        Call(bytearray, 10**12),
        {1: 2},
        torch.zeros(1).expand(10**12),
    ],
    ids=["code", "bytearray", "number as key", "endless view"],
)
def test_hostile_archives_are_refused(archive, evil, is_zip):
    torch.save(evil, archive, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"archive\.pkl: not a readable checkpoint: "):
        load_archive(archive)


def test_small_numbers_are_keys_where_asked_for(archive):
    assert load_archive(save(archive, {1: {"a": 2}}), keys=(str, int)) == {1: {"a": 2}}


def rewrite(path, change, **options):
    """Copy an archive, each entry through change(name, data) -> data, None to leave it out."""
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", **options) as target:
        for name, data in entries.items():
            changed = change(name.split("/", 1)[1], data)
            if changed is not None:
                target.writestr(name, changed)


CHANGES = {
    "no pickle": lambda name, data: None if name == "data.pkl" else data,
    "no storage": lambda name, data: None if name == "data/0" else data,
    "short storage": lambda name, data: data[:-4] if name == "data/0" else data,
    "other endianness": lambda name, data: b"neither" if name == "byteorder" else data,
    "short pickle": lambda name, data: data[:-3] if name == "data.pkl" else data,
}


@pytest.mark.parametrize("name", CHANGES)
def test_damaged_archives_are_refused(archive, name):
    before = archive.read_bytes()
    rewrite(archive, CHANGES[name])
    assert archive.read_bytes() != before
    with pytest.raises(ValueError, match=r"archive\.pkl: not a readable checkpoint: "):
        load_archive(archive)


def seen_twofold(archive):
    """Archives in which zipfile, which checks, and PyTorch might read different entries."""
    whole = archive.read_bytes()
    yield whole + whole
    yield b"PK" + whole
    rewrite(archive, lambda _, data: data, compression=zipfile.ZIP_DEFLATED)
    yield archive.read_bytes()
    with pytest.warns(UserWarning, match="Duplicate"):
        yield with_two_pickles(archive, "data.pkl")
    yield with_two_pickles(archive, "DATA.PKL")
    yield with_two_pickles(archive, "data.pkl_").replace(b"pkl_", b"pkl\0")


def with_two_pickles(archive, name):
    """Write an archive of {}, which is checked, and of {1: 2} under another name."""
    save(archive, {})
    first = archive.read_bytes()
    save(archive, {1: 2})
    second = zipfile.ZipFile(archive).read("archive/data.pkl")
    archive.write_bytes(first)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(f"archive/{name}", second)
    return archive.read_bytes()


def test_archives_that_two_readers_might_see_differently_are_refused(archive):
    for content in seen_twofold(archive):
        archive.write_bytes(content)
        with pytest.raises(ValueError, match=r"archive\.pkl: not a readable checkpoint: "):
            load_archive(archive)


@IS_ZIP
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_cut_archive_is_refused(archive, keep, is_zip):
    data = save(archive, torch.load(archive), is_zip=is_zip).read_bytes()
    archive.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"archive\.pkl: not a readable checkpoint: "):
        load_archive(archive)


def test_changed_bit_is_noticed(archive):
    data = archive.read_bytes()
    index = data.index(struct.pack("<f", 5.0))
    archive.write_bytes(data[:index] + b"\x01" + data[index + 1 :])
    with pytest.raises(ValueError, match=r"archive\.pkl: not a readable checkpoint: .*damaged"):
        load_archive(archive)
