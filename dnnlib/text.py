"""Short texts: durations for people, and numbers that people write."""

_MAX_NUMBERS = 1_000_000
_MAX_NUMBER = 2**32 - 1


def format_seconds(seconds: float) -> str:
    """Return a duration in the largest two units.

    >>> format_seconds(59.6), format_seconds(75), format_seconds(3700), format_seconds(200000)
    ('60s', '1m 15s', '1h 01m', '2d 07h')
    """
    total = round(seconds)
    if total < 61:
        return f"{total}s"
    minutes, second = divmod(total, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02d}h"
    return f"{hours}h {minute:02d}m" if hours else f"{minutes}m {second:02d}s"


def parse_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list with ranges, in the order written.

    Raises: ValueError for anything but whole numbers from 0 to 2**32 - 1, or too many of them.

    >>> parse_numbers("0,3,5-9")
    (0, 3, 5, 6, 7, 8, 9)
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise ValueError(f"numbers must be written like 0,3,5-9, got {text[:80]!r}")
        start, end = int(first), int(last or first)
        if not start <= end <= _MAX_NUMBER or len(numbers) + end - start >= _MAX_NUMBERS:
            raise ValueError(
                f"a range must rise, end at most at {_MAX_NUMBER} and give at most {_MAX_NUMBERS}"
                f" numbers, got {part[:80]!r}"
            )
        numbers.extend(range(start, end + 1))
    return tuple(numbers)
