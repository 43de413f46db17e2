"""Signals at random moments: the command is repeated until it ends, and its files are compared."""

import random
import re
import signal
import threading
import time
from collections import Counter

from tests.campaigns.cases import Bench

SECONDS = 300  # after which a process hangs
# What is sent, and whether a second time shortly after.
SIGNALS = (
    *((signal.SIGKILL, False),) * 4,
    *((number, is_twice) for number in (signal.SIGTERM, signal.SIGINT) for is_twice in (0, 1)),
)


# Exit codes of a command that one of them ended: of a trainer, and of others. Two may also meet
# Python at its end.
CODES = {
    signal.SIGKILL: (-signal.SIGKILL,),
    signal.SIGTERM: (128 + signal.SIGTERM, -signal.SIGTERM),
    signal.SIGINT: (128 + signal.SIGINT, 1),
}
# What Python says, and goes on, where SIGINT meets a finaliser.
IGNORED = re.compile(r"^Exception ignored .*?^KeyboardInterrupt\b.*?$", re.MULTILINE | re.DOTALL)


class Announced:
    """A context that writes a line where a command begins; at its end, signals are too late."""

    def __enter__(self):
        print("begins", flush=True)  # noqa: T201

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def begin(bench):
    """Start the command; return it when it has begun, with all imports done."""
    fork, text = bench.start(Announced()), ""
    while not text.endswith("begins\n"):
        line = fork.written.readline()
        assert line, text
        text += line
    return fork


def measure(bench):
    """Run the command undisturbed; return the seconds that it took without Python's start."""
    bench.reset()
    fork, began = begin(bench), time.monotonic()
    code, text = fork.end()
    assert code == 0, text
    return time.monotonic() - began


def faults_of_signal(number, is_twice, code, text):
    """Return what is wrong with how a command ended that was sent a signal, "" for nothing."""
    text = IGNORED.sub("", text) if number == signal.SIGINT else text
    may_say = number == signal.SIGINT and is_twice and "KeyboardInterrupt" in text
    is_wrong = code not in (0, *CODES[number]) and not (is_twice and code == -number)
    is_wrong |= "Traceback" in text and not may_say
    return f"{number.name}: exit code {code}: {text[-1500:]}" if is_wrong else ""


def interrupt(bench, rng, longest):
    """Start the command and send it a signal within so many seconds.

    Returns: what was sent and how the command ended; the seconds that it took where it had ended
        before, else None; whether it was killed; what is wrong, or "".
    """
    number, is_twice = rng.choice(SIGNALS)
    fork, began = begin(bench), time.monotonic()
    wait, pause = rng.uniform(0, longest), rng.uniform(0.01, 0.3)
    timers = [threading.Timer(wait, fork.send, [number])]
    timers += [threading.Timer(wait + pause, fork.send, [number])] * bool(is_twice)
    timers += [threading.Timer(SECONDS, fork.send, [signal.SIGKILL])]
    for timer in timers:
        timer.start()
    code, text = fork.end()
    for timer in timers:
        timer.cancel()
    seconds = time.monotonic() - began
    sent = f"{signal.Signals(number).name}{' twice' if is_twice else ''}"
    was_killed = code < 0 or is_twice
    if seconds >= SECONDS:
        return f"{sent}: hung", None, was_killed, "hung"
    wrong = faults_of_signal(number, is_twice, code, text)
    if code == 0:
        return f"{sent}: done before", seconds, was_killed, wrong
    return f"{sent}: ended", None, was_killed, wrong


def run(cases, folder, *, seed, deadline, most=None):
    """Interrupt cases in turn, until `deadline` says so or each had `most` signals.

    A command is interrupted one to four times, then ends undisturbed. What ended before its signal
    is no attack.

    Returns: a row a case with its counts, and what was found.
    """
    rng, benches, longest, rows = random.Random(seed), {}, {}, {}  # noqa: S311  # to be repeated
    for case in cases:
        bench = benches[case.name] = Bench(case, folder / case.slug)
        longest[case.name] = measure(bench)
        bench.keep_expected()
        rows[case.name] = {"attacks": 0, "rounds": 0, "ended": Counter(), "found": []}
    is_left = True
    while is_left and not deadline():
        is_left = False
        for name, bench in benches.items():
            row = rows[name]
            if deadline() or (most is not None and row["attacks"] >= most):
                continue
            is_left = True
            bench.reset()
            wrong, was_killed = [], False
            for turn in range(rng.randint(1, 4 if most is None else min(4, most - row["attacks"]))):
                ended, seconds, is_killed, what = interrupt(bench, rng, longest[name])
                row["ended"][ended] += 1
                wrong += [what] * bool(what)
                was_killed |= is_killed
                if seconds is not None:
                    if turn == 0:  # the first measure was of a cold or busier machine
                        longest[name] = min(longest[name], seconds)
                    break
                row["attacks"] += 1
            code, text = bench.finish()
            other = f"repeated: exit code {code}: {text[-1500:]}" if code else ""
            other = other or bench.compare(was_killed=was_killed)
            wrong += [other] * bool(other)
            row["rounds"] += 1
            row["found"] += wrong
    return rows
