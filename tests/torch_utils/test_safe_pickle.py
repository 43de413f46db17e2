"""The closed unpickler: what CPython writes comes back, and nothing else is let in or run."""

import collections
import os
import pickle

import numpy as np
import pytest
import torch

from tests.helpers import published
from tests.helpers.pickles import P4, Call, loader
from torch_utils import pickle_machine, pickle_values
from torch_utils.safe_pickle import PersistentObject, load_pickle

PROTOCOLS = (2, 3, 4, 5)
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
HOSTILE = {
    "global by stack": (P4 + b"\x8c\x02os\x8c\x06system\x93.", r"os\.system"),
    "attribute chain": (P4 + b"\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.", "__init__"),
    "chain into globals": (P4 + b"\x8c\x05numpy\x8c\x0fos.path.os.exec\x93.", r"os\.path"),
    "builtins": (P4 + b"cbuiltins\neval\n.", "builtins.eval"),
    "python 2 builtins": (P4 + b"c__builtin__\ngetattr\n.", "getattr"),
    "name that is no text": (P4 + b"K\x01K\x02\x93.", "no text"),
    "endless name": (P4 + b"c" + b"a" * 10_000, "does not end"),
    "unhashable name": (P4 + b"]]\x93.", "no text"),
    "call of a value": (P4 + TEXT_A + b")R.", "calls a str"),
    "call of a list": (P4 + b"])R.", "calls a list"),
    "call without tuple": (P4 + DICT_CLASS + b"]R.", "with a list"),
    "class with arguments": (P4 + DICT_CLASS + b"K\x01\x85R.", "1 arguments"),
    "build on a dict": (P4 + b"}}b.", "state of a dict"),
    "build on a class": (P4 + DICT_CLASS + b"}b.", "state of a global collections.OrderedDict"),
    "build on a tensor class": (
        P4 + b"ctorch._utils\n_rebuild_parameter\n}b.",
        "state of a global",
    ),
    "a class as a value": (P4 + DICT_CLASS + b".", "collections.OrderedDict stands where"),
    "INST": (P4 + b"(iposix\nsystem\n.", "INST"),
    "OBJ": (P4 + b"(" + DICT_CLASS + b"o.", "OBJ"),
    "NEWOBJ_EX": (P4 + DICT_CLASS + b")}\x92.", "NEWOBJ_EX"),
    "EXT1": (P4 + b"\x82\x01.", "EXT1"),
    "EXT4": (P4 + b"\x84\x01\x00\x00\x00.", "EXT4"),
    "persistent id": (P4 + TEXT_A + b"Q.", "persistent"),
    "persistent id as text": (P4 + b"Pid\n.", "PERSID"),
    "out-of-band buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "bytearray": (b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", "BYTEARRAY8"),
    "duplicate": (P4 + b"]22.", "DUP"),
    "protocol 0 integer": (P4 + b"I1\n.", "INT"),
    "huge integer": (P4 + b"\x8b\xff\xff\xff\x7f.", "LONG4"),
    "huge text": (P4 + b"\x8d" + b"\xff" * 7 + b"\x7fabc.", "ends too early"),
    "huge bytes": (P4 + b"\x8e" + b"\xff" * 7 + b"\x7fabc.", "ends too early"),
    "huge frame": (P4 + b"\x95" + b"\xff" * 7 + b"\x7fN.", "ends too early"),
    "cut operand": (P4 + b"M\x01", "ends too early"),
    "no stop": (P4 + b"N", "ends too early"),
    "stop at once": (P4 + b".", "stack is not one value"),
    "two values": (P4 + b"NN.", "stack is not one value"),
    "open mark": (P4 + b"(N.", "stack is not one value"),
    "missing mark": (P4 + b"t.", "mark is missing"),
    "empty stack": (P4 + b"\x85.", "stack is empty"),
    "put of nothing": (P4 + b"q\x00.", "stack is empty"),
    "memo that is empty": (P4 + b"h\x05.", "memo place 5"),
    "huge memo place": (P4 + b"Nr\xff\xff\xff\xff0.", "POP"),
    "newer protocol": (b"\x80\x09N.", "protocol 9"),
    "unknown opcode": (P4 + b"\xfe.", "0xfe"),
    "append to text": (P4 + TEXT_A + b"Na.", "appends to a str"),
    "append to a tuple": (P4 + b")Na.", "appends to a tuple"),
    "items of a list": (P4 + b"]" + TEXT_A + b"Ns.", "items of a list"),
    "half an item": (P4 + b"}(" + TEXT_A + b"u.", "0.5 items"),
    "entries of a list": (P4 + b"](\x8c\x01a\x90.", "entries to a list"),
    "number as key": (P4 + b"}K\x01Ns.", "key is a int"),
    "tuple as key": (P4 + b"})Ns.", "key is a tuple"),
    "number in a set": (P4 + b"\x8f(K\x01\x90.", "key is a int"),
    "text that is not UTF-8": (P4 + b"\x8c\x01\xff.", "UTF-8"),
    "list in itself": (P4 + b"]\x94h\x00a.", "contains itself"),
    "dict in itself": (P4 + b"}\x94" + TEXT_A + b"h\x00s.", "contains itself"),
    "tuple in itself": (P4 + b"]\x94h\x00\x85a.", "contains itself"),
    "deep nesting": (P4 + b")" + b"\x85" * 100_000 + b".", "deep"),
    "deep lists": (P4 + b"]" * 100_000 + b"a" * 99_999 + b".", "deep"),
    "deep through the memo": (
        P4 + b")" + b"\x85" * 50 + b"\x94]h\x00" + b"\x85" * 50 + b"a\x86.",
        "levels",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(load, name):
    data, reason = HOSTILE[name]
    with pytest.raises(ValueError, match=rf"(?s)network\.pkl.*({reason})"):
        load(data)


def test_billion_laughs_are_refused(load):
    # Each tuple holds the one before ten times.
    tuples = b"".join(b"(" + 10 * bytes([ord("h"), n]) + b"t\x94" for n in range(30))
    with pytest.raises(ValueError, match=r"network\.pkl.*unfolds"):
        load(P4 + b"()\x94" + tuples + b"t.")


def test_number_of_opcodes_is_bounded(load, monkeypatch):
    monkeypatch.setattr(pickle_machine, "MAX_OPCODES", 1000)
    assert len(load(P4 + b"](" + b"N" * 900 + b"e.")) == 900
    with pytest.raises(ValueError, match="1000 opcodes"):
        load(P4 + b"](" + b"N" * 1000 + b"e.")


@pytest.mark.parametrize("data", [b"", b"\x80", b"plain text", b"\x00" * 100])
def test_what_is_no_pickle_is_refused(load, data):
    with pytest.raises(ValueError, match=r"network\.pkl"):
        load(data)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        load_pickle(tmp_path / "absent.pkl")


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


def test_limits_leave_room_for_real_networks():
    # A snapshot with three 1024x1024 networks has some 100,000 opcodes and 10,000 nodes.
    assert pickle_machine.MAX_OPCODES >= 1_000_000
    assert pickle_values.MAX_NODES >= 1_000_000
    assert pickle_values.MAX_DEPTH >= 50
