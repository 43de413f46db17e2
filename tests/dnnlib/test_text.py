"""Durations for people, and numbers that people write."""

import pytest

from dnnlib.text import format_seconds, parse_numbers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (59.4, "59s"),
        (60.6, "1m 01s"),
        (61, "1m 01s"),
        (3599.4, "59m 59s"),
        (3599.6, "1h 00m"),
        (3661, "1h 01m"),
        (86399, "23h 59m"),
        (86400, "1d 00h"),
        (1e6, "11d 13h"),
    ],
)
def test_format_seconds(seconds, text):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0", (0,)),
        ("5-5", (5,)),
        (" 3, 1 ", (3, 1)),
        ("0,3,5-9", (0, 3, 5, 6, 7, 8, 9)),
        ("2,2", (2, 2)),
        ("4294967295", (2**32 - 1,)),
    ],
)
def test_parse_numbers(text, numbers):
    assert parse_numbers(text) == numbers


@pytest.mark.parametrize(
    "text", ["", "a", "1,", "-1", "1-", "3-1", "1.5", "0-4294967295", "4294967296", "²", "1--2"]
)
def test_parse_numbers_refuses(text):
    with pytest.raises(ValueError, match="must"):
        parse_numbers(text)
