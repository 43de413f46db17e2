"""Durations for people."""

import pytest

from dnnlib.text import format_seconds


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
