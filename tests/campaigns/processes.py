"""Several processes: any number of them writes the same data set, and none survives another."""

import signal
import socket
import time
from collections import Counter

from tests.campaigns.cases import Bench, faults_of

SHARED = ("label", "new identities")  # commands whose result no number of processes changes
TRAINED = ("train GAN", "train recogniser")  # by several processes together
SECONDS = 60  # in which the others must end


def start_ranks(bench, count):
    """Start the command as torchrun starts it in so many processes."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [bench.start(RANK=str(rank), LOCAL_RANK=str(rank), **common) for rank in range(count)]


def count_ranks(case, folder, counts=(2, 4)):
    """Write a data set by one process and by others; return what differs, by count."""
    bench = Bench(case, folder / case.slug)
    code, text = bench.finish()
    assert code == 0, text
    bench.keep_expected()
    found = {}
    for count in counts:
        bench.reset()
        ends = [fork.end() for fork in start_ranks(bench, count)]
        failed = [f"exit code {code}: {text[-800:]}" for code, text in ends if code]
        if wrong := "; ".join(failed) or bench.compare():
            found[count] = wrong
    return found


def lose_a_rank(case, folder, lost):
    """Kill one of two processes when both train, then repeat the run.

    Returns: how the other one ended, and what is wrong with that or with the files, or "".
    """
    bench = Bench(case, folder / f"{case.slug}-{lost}")
    ends = [fork.end() for fork in start_ranks(bench, 2)]
    assert not any(code for code, _ in ends), ends
    bench.keep_expected()
    bench.reset()
    forks, log = start_ranks(bench, 2), ""
    while not ("first" in log and "took" in log):
        text = forks[0].written.readline()
        assert text, log
        log += text
    forks[lost].send(signal.SIGKILL)
    other, began = forks[1 - lost], time.monotonic()
    other.process.join(SECONDS)
    seconds = time.monotonic() - began
    is_alive = other.process.exitcode is None
    for fork in forks:
        fork.send(signal.SIGKILL)
    (code, text), _ = other.end(), forks[lost].end()
    if is_alive:
        return "hung", f"the other process was there after {SECONDS} seconds"
    wrong = faults_of(code, text) or ("" if code else f"exit code 0: {text[-1500:]}")
    if not wrong:
        ends = [fork.end() for fork in start_ranks(bench, 2)]
        failed = [f"repeated: exit code {code}: {text[-800:]}" for code, text in ends if code]
        wrong = "; ".join(failed) or bench.compare()
    return f"ended after {seconds:.0f} s", wrong


def run(cases, folder, *, seed, deadline):
    """Do each check once; return a row a check with its counts, and what was found."""
    rows = {}
    for case in cases:
        if deadline():
            break
        if case.name in SHARED:
            found = count_ranks(case, folder)
            rows[f"{case.name}: 2 and 4"] = {
                "attacks": 2,
                "ended": Counter({"written": 2}),
                "found": [*found.items()],
            }
        if case.name in TRAINED:
            ends = [lose_a_rank(case, folder, lost) for lost in (0, 1)]
            rows[f"{case.name}: one of 2 dies"] = {
                "attacks": 2,
                "ended": Counter(ended for ended, _ in ends),
                "found": [wrong for _, wrong in ends if wrong],
            }
    return rows
