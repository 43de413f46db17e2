"""Short texts for people."""


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
