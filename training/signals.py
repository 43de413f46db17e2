"""A polite stop: the first SIGINT or SIGTERM asks, a later one ends the process."""

import signal
import threading
import time
from types import FrameType

# torchrun passes on a signal that a terminal has already sent to every process.
_SAME_REQUEST_SEC = 5.0


class StopRequest:
    """Notes a signal while active; the training loop looks at `is_set` between iterations."""

    def __init__(self) -> None:
        self.is_set = False
        self._set_at = 0.0
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.is_set and now - self._set_at > _SAME_REQUEST_SEC:
            self._restore()
            signal.raise_signal(number)
        elif not self.is_set:
            self.is_set, self._set_at = True, now

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()
