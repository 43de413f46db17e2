"""Faults at the n-th call: a file operation of a command fails, or the process dies just there.

The same command is then repeated without the fault, and must leave what an undisturbed one leaves.
"""

import builtins
import contextlib
import errno
import io
import itertools
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaigns.cases import Bench, faults_of

KILL = "kill"
# A full disk stays full; the others happen once.
ERRORS = ("ENOSPC", KILL, "EIO", "EACCES")
LASTING = ("ENOSPC",)
FUNCTIONS = ("replace", "rename", "fsync", "mkdir", "unlink", "link", "rmdir")


@dataclass
class Fault:
    """A context in which a file operation below a folder fails; others are only counted.

    Attributes:
        folder: whose files count.
        number: of the operation that fails, from 0; None lets all pass.
        error: name of an errno, or KILL.
        record: file to which the operations are written at the end, each ["open", "out/x.png"].
    """

    folder: Path
    number: int | None = None
    error: str = KILL
    record: Path | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)
    is_full: bool = False

    def __enter__(self):
        self._lock = threading.Lock()
        self._open = io.open
        io.open = builtins.open = self._open_checked
        for name in FUNCTIONS:
            setattr(os, name, self._checked(name, getattr(os, name)))

    def __exit__(self, *_):
        if self.record is not None:
            with self._open(self.record, "w", encoding="utf-8") as file:
                json.dump(self.seen, file)

    def meet(self, operation, path):
        """Count an operation, and let it fail where it is its turn."""
        path = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100  # links stay
        if not path.is_relative_to(self.folder):
            return
        with self._lock:
            is_now = len(self.seen) == self.number
            self.seen.append((operation, path.relative_to(self.folder).as_posix()))
        if is_now and self.error == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        self.is_full |= is_now and self.error in LASTING
        frees = operation in ("unlink", "rmdir", "replace", "rename")
        if is_now or (self.is_full and not frees):
            number = getattr(errno, self.error)
            raise OSError(number, os.strerror(number), str(path))

    def _checked(self, name, function):
        def call(first, *others, **named):
            where = first if name != "fsync" else _path_of(first)
            self.meet(name, where)
            return function(first, *others, **named)

        return call

    def _open_checked(self, file, mode="r", buffering=-1, encoding=None, *others, **named):
        if isinstance(file, int) or not set(mode) & set("wxa+"):
            return self._open(file, mode, buffering, encoding, *others, **named)
        self.meet("open", os.fspath(file))
        if "+" in mode:
            return self._open(file, mode, buffering, encoding, *others, **named)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), self.meet)
        writer = io.BufferedWriter(raw)
        if "b" in mode:
            return writer
        return io.TextIOWrapper(writer, encoding, *others, **named)


class _Raw(io.FileIO):
    """Meets a fault where a buffer goes to disk; what Pillow writes by the file's number, not."""

    def __init__(self, path, mode, meet):
        super().__init__(path, mode)
        self._meet = meet

    def write(self, data):
        self._meet("write", self.name)
        return super().write(data)


def _path_of(number):
    return os.readlink(f"/proc/self/fd/{number}")


def list_points(bench):
    """Return the operations of an undisturbed run: [["open", "out/x.png"], ...]."""
    record = bench.work.with_name("operations.json")
    bench.reset()
    code, text = bench.start(Fault(folder=bench.work, record=record)).end()
    assert code == 0, text
    return json.loads(record.read_text(encoding="utf-8"))


def in_order(points, rng):
    """Return the numbers of operations, those of a new kind first: its first, its last, others.

    Operations are of a kind where their files' names differ in digits only.
    """
    kinds = {}
    for number, (operation, name) in enumerate(points):
        pattern = re.sub(r"[0-9a-f]{8}(?=\.part)|[0-9]+", "#", name)
        kinds.setdefault((operation, pattern), []).append(number)
    first = [numbers[0] for numbers in kinds.values()]
    last = [numbers[-1] for numbers in kinds.values() if len(numbers) > 1]
    others = [number for numbers in kinds.values() for number in numbers[1:-1]]
    for group in (first, last, others):
        rng.shuffle(group)
    return [*first, *last, *others]


def attack(bench, number, error):
    """Let one operation fail, then repeat the command.

    Returns: how the failing run ended, and what is wrong with that or with the files, or "".
    """
    bench.reset()
    code, text = bench.start(Fault(folder=bench.work, number=number, error=error)).end()
    if error != KILL and (wrong := faults_of(code, text)):
        return f"exit code {code}", wrong
    ended = "killed" if code < 0 else f"exit code {code}"
    if code == 0:
        return ended, bench.compare()
    code, text = bench.finish()
    if code != 0:
        return ended, f"repeated: exit code {code}: {text[-1500:]}"
    return ended, bench.compare(was_killed=error == KILL)


class BackwardClock:
    """A context in which the time of day goes back a day at each look."""

    def __enter__(self):
        now = itertools.count(int(time.time()), -86400)
        time.time = lambda: float(next(now))

    def __exit__(self, *_):
        pass  # the process ends


def set_clock_back(bench):
    """Run the command while the clock goes back; return what is wrong, or ""."""
    bench.reset()
    code, text = bench.start(BackwardClock()).end()
    return bench.compare() if code == 0 else f"exit code {code}: {text[-1500:]}"


def start_twice(bench):
    """Run the command twice at once, then again; return what is wrong, or ""."""
    bench.reset()
    forks = [bench.start(), bench.start()]
    ends = [fork.end() for fork in forks]
    wrong = [found for code, text in ends if (found := faults_of(code, text))]
    if all(code for code, _ in ends):
        wrong.append("neither came to its end")
    code, text = bench.finish()
    return "; ".join(wrong) or (bench.compare() if code == 0 else f"exit code {code}: {text}")


@contextlib.contextmanager
def small_disk(path, kib):
    """Mount a file system of so many KiB there. Raises: OSError where that is not allowed."""
    path.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", path)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def _mount(*words):
    done = subprocess.run(["mount", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"no file system can be mounted here: {done.stderr.strip()}")


def fill_disk(bench, kib):
    """Run the command on a disk that is too small, then read-only, then large enough.

    Returns: what is wrong, or "".
    """
    bench.reset()
    place = bench.work / "out"
    with small_disk(place, kib):
        ends = [bench.finish()]
        _mount("-o", "remount,ro", place)
        ends.append(bench.finish())
        _mount("-o", "remount,rw,size=64m", place)
        wrong = [found for code, text in ends if (found := faults_of(code, text))]
        wrong += [f"exit code 0 on a bad disk: {text}" for code, text in ends if code == 0]
        code, text = bench.finish()
        wrong += [f"repeated: exit code {code}: {text[-1500:]}"] if code else [bench.compare()]
    return "; ".join(filter(None, wrong))


def run(cases, folder, *, seed, deadline, most=None):
    """Attack cases in turn, until `deadline` says so or each had `most` attacks.

    Returns: a row a case with its counts, and what was found.
    """
    rng, rows = random.Random(seed), {}  # noqa: S311  # to be repeated
    queues = {}
    for case in cases:
        bench = Bench(case, folder / case.slug)
        points = list_points(bench)
        bench.keep_expected()
        numbers = in_order(points, rng)[:most]
        queues[case.name] = bench, points, numbers
        rows[case.name] = {"operations": len(points), "attacks": 0, "ended": Counter(), "found": []}
    turn = 0
    while not deadline() and any(numbers for *_, numbers in queues.values()):
        for name, (bench, points, numbers) in queues.items():
            if not numbers or deadline():
                continue
            number, error = numbers.pop(0), ERRORS[turn % len(ERRORS)]
            ended, wrong = attack(bench, number, error)
            row, turn = rows[name], turn + 1
            row["attacks"] += 1
            row["ended"][f"{error}: {ended}"] += 1
            if wrong:
                row["found"].append([error, number, *points[number], wrong])
    return rows
