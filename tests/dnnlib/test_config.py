"""Configurations to plain containers and back: equal after a round trip, strict throughout."""

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest

from dnnlib.config import from_dict, to_dict


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int
    name: str = "x"


@dataclass(frozen=True, kw_only=True)
class Outer:
    rate: float
    inner: Inner = field(default_factory=lambda: Inner(width=1))
    color: Color = Color.RED
    taps: tuple[float, ...] = (1.0, 2.0)
    limit: float | None = None
    is_on: bool = False
    parts: dict[str, Inner] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    kind: int | str = 0
    extra: Any = None


FULL = Outer(
    rate=0.5,
    inner=Inner(width=3, name="y"),
    color=Color.BLUE,
    taps=(1.0, 3.0, 3.0, 1.0),
    limit=2.5,
    is_on=True,
    parts={"a": Inner(width=4), "b": Inner(width=5)},
    counts={"rgb": 3},
    kind="word",
    extra=[1, {"deep": None}],
)


@pytest.mark.parametrize("config", [FULL, Outer(rate=1.0)])
def test_round_trip_through_json(config):
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config)))) == config


def test_plain_form():
    plain = to_dict(FULL)
    assert plain["inner"] == {"width": 3, "name": "y"}
    assert plain["color"] == "blue"
    assert plain["taps"] == [1.0, 3.0, 3.0, 1.0]
    assert plain["parts"]["b"] == {"width": 5, "name": "x"}


def test_defaults_may_be_absent_and_integers_are_floats():
    config = from_dict(Outer, {"rate": 1, "limit": 2, "taps": [1, 2]})
    assert config == Outer(rate=1.0, limit=2.0, taps=(1.0, 2.0))
    assert isinstance(config.rate, float)
    assert [type(tap) for tap in config.taps] == [float, float]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rate": 1, "colour": "red"}, r"^my.json: unknown key 'colour'; did you mean 'color'\?$"),
        ({"rate": 1, "zzz": 0}, "^my.json: unknown key 'zzz'$"),
        ({"rate": 1, 5: 0}, "unknown key 5"),
        ({}, "^my.json: missing rate$"),
        ({"rate": "1"}, "^my.json: rate must be float, got '1'$"),
        ({"rate": True}, "rate must be float, got True"),
        ({"rate": None}, "rate must be float, got None"),
        ({"rate": 1, "is_on": 1}, "is_on must be bool, got 1"),
        ({"rate": 1, "limit": "no"}, "limit must be float, got 'no'"),
        ({"rate": 1, "color": "green"}, "color must be one of red, blue, got 'green'"),
        ({"rate": 1, "taps": 3}, "taps must be a list, got 3"),
        ({"rate": 1, "taps": ["a"]}, "taps must be float, got 'a'"),
        ({"rate": 1, "inner": 3}, "inner: expected an object of options, got int"),
        ({"rate": 1, "inner": {}}, "my.json: inner: missing width"),
        ({"rate": 1, "inner": {"width": 1.5}}, "inner: width must be int, got 1.5"),
        ({"rate": 1, "inner": {"width": 1, "wdth": 2}}, "unknown key 'wdth'; did you mean 'width'"),
        ({"rate": 1, "parts": []}, r"parts must be an object, got \[\]"),
        ({"rate": 1, "parts": {"a": {"width": "w"}}}, "parts: a: width must be int, got 'w'"),
        ({"rate": 1, "counts": {"rgb": 3.5}}, "counts: rgb must be int, got 3.5"),
        ({"rate": 1, "counts": {3: 3}}, "counts: key must be str, got 3"),
        ({"rate": 1, "kind": 1.5}, "kind must be str, got 1.5"),
        ([], "my.json: expected an object of options, got list"),
    ],
)
def test_what_does_not_fit_is_named(content, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Outer, content, "my.json")


def test_errors_of_the_dataclass_name_the_file():
    @dataclass(frozen=True, kw_only=True)
    class Positive:
        value: int

        def __post_init__(self):
            if self.value <= 0:
                raise ValueError(f"value must be positive, got {self.value}")

    with pytest.raises(ValueError, match="^my.json: value must be positive, got -1"):
        from_dict(Positive, {"value": -1}, "my.json")
