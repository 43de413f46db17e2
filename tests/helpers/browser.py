"""A headless Chromium of the system, driven over its debugging pipe: no driver, no network."""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 120
# Chromium reads commands from file 3 and answers on file 4; each message ends with a zero byte.
SHIM = "import os, sys; a = sys.argv; os.dup2(int(a[1]), 3); os.dup2(int(a[2]), 4); "
SHIM += "os.execv(a[3], a[3:])"
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server")
OPTIONS += ("--disable-extensions", "--remote-debugging-pipe", "about:blank")


def find_browser():
    """Return the path of a browser; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"needs a browser of the system: none of {', '.join(NAMES)} is installed")
    return found


@contextlib.contextmanager
def open_browser(profile):
    """Yield a Page; the browser ends with the block."""
    browser = find_browser()
    ends = [os.pipe(), os.pipe()]
    # Numbers above 4, so that the shim overwrites none of them.
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (ends[0][0], ends[1][1]))
    os.close(ends[0][0])
    os.close(ends[1][1])
    command = [sys.executable, "-c", SHIM, str(read), str(write), browser]
    command += [f"--user-data-dir={profile}", *OPTIONS]
    with (profile / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            pass_fds=(read, write),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(read)
    os.close(write)
    try:
        yield Page(ends[0][1], ends[1][0])
    finally:
        os.close(ends[0][1])
        os.close(ends[1][0])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Page:
    """One page of the browser.

    Attributes:
        events: all messages that were no answers, in their order.
    """

    def __init__(self, commands, answers):
        self._commands, self._answers = commands, answers
        self._buffer, self._number, self._session = b"", 0, None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Return the answer to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda found: found.get("id") == self._number)
        assert "error" not in answer, answer
        return answer["result"]

    def visit(self, address, width):
        """Load an address in a window of that width."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.events.clear()
        self.call("Page.navigate", url=address)
        if not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self._wait(lambda found: found.get("method") == "Page.loadEventFired")

    def value(self, expression):
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"]["value"]

    def drag(self, points):
        """Press the mouse at the first point [x, y] of the window, release it at the last."""
        first, last = points[0], points[-1]
        self.mouse("mousePressed", first)
        for point in points[1:]:
            self.mouse("mouseMoved", point)
        self.mouse("mouseReleased", last)

    def mouse(self, kind, point):
        """Let the mouse do one thing, with the left button."""
        x, y = point
        held = int(kind != "mouseReleased")
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button="left",
            buttons=held,
            clickCount=1,
        )

    def touch(self, *frames):
        """Touch with one or more fingers: each frame has a point [x, y] a finger, or none."""
        for number, frame in enumerate(frames):
            kind = "touchEnd" if not frame else "touchMove" if number else "touchStart"
            points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(frame)]
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def press(self, *keys):
        """Press keys one after the other; "Control+z" holds Control."""
        for name in keys:
            modifier, _, key = name.rpartition("+")
            held = {"": 0, "Control": 2, "Shift": 8}[modifier]
            text = key if len(key) == 1 and not held else ""
            code = f"Digit{key}" if key.isdigit() else ""
            for kind in ("keyDown", "keyUp"):
                self.call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code=code,
                    modifiers=held,
                    text=text if kind == "keyDown" else "",
                )

    def wait_for(self, expression):
        """Wait until an expression in the page is true."""
        end = time.monotonic() + SECONDS
        while not self.value(f"!!({expression})"):
            assert time.monotonic() < end, f"not within {SECONDS} s: {expression}"
            time.sleep(0.02)

    def errors(self, allowed=("data:", "file:")):
        """Return what the browser complained about, and requests of anything but `allowed`."""
        found = []
        for event in self.events:
            match event:
                case {"method": "Runtime.exceptionThrown" | "Network.loadingFailed"}:
                    found.append(event["params"])
                case {"method": "Runtime.consoleAPICalled", "params": {"type": "error"}}:
                    found.append(event["params"])
                case {"method": "Log.entryAdded", "params": {"entry": {"level": "error"} as entry}}:
                    found.append(entry)
                case {"method": "Network.requestWillBeSent", "params": {"request": request}}:
                    if not request["url"].startswith(allowed):
                        found.append(request["url"])
        return found

    def _wait(self, is_wanted):
        end = time.monotonic() + SECONDS
        while True:
            message, zero, rest = self._buffer.partition(b"\0")
            if zero:
                self._buffer = rest
                found = json.loads(message)
                if "id" not in found:
                    self.events.append(found)
                if is_wanted(found):
                    return found
                continue
            ready, _, _ = select.select([self._answers], [], [], max(end - time.monotonic(), 0))
            assert ready, f"the browser did not answer within {SECONDS} s"
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser ended"
            self._buffer += part
