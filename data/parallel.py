"""Threads for work that spends its time outside Python: reading, decoding and writing images."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_THREADS = 16


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """Yield `function` of each item, in the order of the items.

    Args:
        function: called in several threads at once; the first error that it raises ends the work.
        items: read at once.
        workers: number of threads; None is one a processor, at most 16.
    """
    executor = ThreadPoolExecutor(workers or min(_MAX_THREADS, os.cpu_count() or 1))
    try:
        yield from executor.map(function, items)
    finally:
        executor.shutdown(cancel_futures=True)
