"""Signals at random moments: the command is repeated until it ends, and its files are compared."""

import random
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


def interrupt(bench, rng, longest):
    """Start the command and send it a signal within so many seconds.

    Returns: what was sent and how the command ended, and what is wrong with that or "".
    """
    number, is_twice = rng.choice(SIGNALS)
    fork, began = bench.start(), time.monotonic()
    wait, pause = rng.uniform(0, longest), rng.uniform(0.01, 0.3)
    timers = [threading.Timer(wait, fork.send, [number])]
    timers += [threading.Timer(wait + pause, fork.send, [number])] * bool(is_twice)
    timers += [threading.Timer(SECONDS, fork.send, [signal.SIGKILL])]
    for timer in timers:
        timer.start()
    code, text = fork.end()
    for timer in timers:
        timer.cancel()
    sent = f"{signal.Signals(number).name}{' twice' if is_twice else ''}"
    ended = "done before" if code == 0 else "ended"
    if time.monotonic() - began >= SECONDS:
        return f"{sent}: hung", "hung"
    has_traceback = "Traceback" in text and "KeyboardInterrupt" not in text.splitlines()[-1]
    wrong = f"exit code {code}: {text[-1500:]}" if has_traceback else ""
    return f"{sent}: {ended}", wrong


def run(cases, folder, *, seed, deadline, most=None):
    """Interrupt cases in turn, until `deadline` says so or each had `most` signals.

    A command is interrupted one to four times, then ends undisturbed.

    Returns: a row a case with its counts, and what was found.
    """
    rng, benches, rows = random.Random(seed), {}, {}  # noqa: S311  # to be repeated
    for case in cases:
        bench, began = Bench(case, folder / case.slug), time.monotonic()
        code, text = bench.finish()
        assert code == 0, text
        bench.keep_expected()
        benches[case.name] = bench, time.monotonic() - began
        rows[case.name] = {"attacks": 0, "rounds": 0, "ended": Counter(), "found": []}
    is_left = True
    while is_left and not deadline():
        is_left = False
        for name, (bench, seconds) in benches.items():
            row = rows[name]
            if deadline() or (most is not None and row["attacks"] >= most):
                continue
            is_left = True
            bench.reset()
            wrong = []
            for _ in range(rng.randint(1, 4 if most is None else min(4, most - row["attacks"]))):
                ended, what = interrupt(bench, rng, seconds)
                row["attacks"] += 1
                row["ended"][ended] += 1
                wrong += [what] * bool(what)
            code, text = bench.finish()
            wrong += [f"repeated: exit code {code}: {text[-1500:]}"] if code else []
            wrong += [bench.compare()] * bool(not code and bench.compare())
            row["rounds"] += 1
            row["found"] += wrong
    return rows
