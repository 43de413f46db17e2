"""Long runs: memory, open files and threads of a process stay what they are after a warm-up."""

import dataclasses
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

from tests.campaigns.cases import OFTEN, Bench

GROWTH = 1.05  # of memory, from the second quarter of a run to its last
MORE = {  # words that make a command of cases.py long: thousands of steps or samples
    "train segmentation": ("--steps=2000", "--every=500", "--checkpoint-minutes=1"),
    "train refiner": ("--steps=2000", "--snap=500", "--checkpoint-minutes=1"),
    "train recogniser": ("--epochs=2000", "--checkpoint-minutes=1"),
    "label": ("--num-sample=5000",),
    "new identities": ("--ids=250", "--samples-per-id=20"),
    "generate": ("--seeds=0-4999",),
}


def watch(bench, words, pause=0.2):
    """Run the command with further words; return rows of (MiB, open files, threads) by time."""
    bench.reset()
    fork, rows, said = bench.start(words=words), [], []
    reader = threading.Thread(target=lambda: said.append(fork.written.read()))
    reader.start()  # a full pipe would stop it
    place = Path(f"/proc/{fork.process.pid}")
    while fork.process.exitcode is None:
        fork.process.join(pause)
        try:
            fields = (place / "status").read_text(encoding="ascii", errors="replace")
            number = len(list((place / "fd").iterdir()))
        except OSError:  # it has ended
            break
        found = dict(line.split(":", 1) for line in fields.splitlines() if ":" in line)
        if "VmRSS" in found:
            row = int(found["VmRSS"].split()[0]) / 1024, number, int(found["Threads"])
            rows.append(row)
    reader.join()
    code, _ = fork.end()
    assert code == 0, said
    return rows


def judge(rows):
    """Return medians of the second and the last quarter, and what has grown or ""."""
    quarter = max(len(rows) // 4, 1)
    parts = rows[quarter : 2 * quarter], rows[-quarter - 1 : -1] or rows[-1:]
    early, late = ([statistics.median(c) for c in zip(*part, strict=True)] for part in parts)
    limits = (early[0] * GROWTH + 16, early[1] + 2, early[2] + 2)
    names = ("memory in MiB", "open files", "threads")
    grown = [
        f"{name}: {before:g} -> {after:g}"
        for name, before, after, limit in zip(names, early, late, limits, strict=True)
        if after > limit
    ]
    return early, late, "; ".join(grown)


def run(cases, folder, *, seed, deadline):
    """Run each long command once; return a row a command with its counts, and what was found."""
    rows = {}
    for case in cases:
        if case.name not in MORE or deadline():
            continue
        plain = tuple(word for word in case.words if word != OFTEN)
        bench = Bench(dataclasses.replace(case, words=plain), folder / case.slug)
        began = time.time()
        early, late, grown = judge(watch(bench, MORE[case.name]))
        what = f"{time.time() - began:.0f} s, {early[0]:.0f} -> {late[0]:.0f} MiB"
        what += f", {early[1]:g} -> {late[1]:g} files, {early[2]:g} -> {late[2]:g} threads"
        found = [grown] * bool(grown)
        rows[case.name] = {"attacks": 1, "ended": Counter({what: 1}), "found": found}
    return rows
