"""Hostile and broken files before the readers: each is read, or refused in one line.

A child process reads them under an audit hook that notes whatever a reader must not do because of
a file's content, with bounded memory, and with an alarm that ends it where a file takes too long.
The child tells which file it is at, so that its death is one finding more, and another child goes
on behind it.
"""

import contextlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

from tests.campaigns.mutations import mutate
from tests.helpers.processes import Fork

SECONDS = 10
MEMORY = 2 << 30  # beyond what the process has
# Of other modules than those that are loaded, and of processes, sockets, and Python code.
_NEVER = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork",
          "pty.", "ftplib.", "urllib.", "http.", "smtplib.", "webbrowser.", "pickle.find_class",
          "ctypes.dlopen", "code.__new__", "shutil.", "os.putenv")  # fmt: skip
# Libraries that readers import when the first file needs them.
_READERS = {"compression", "gimpformats", "imagecodecs", "onnx", "onnxruntime", "safetensors",
            "tifffile"}  # fmt: skip
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod",
            "os.chown", "os.truncate", "os.utime")  # fmt: skip


class Watch:
    """Notes what happens while it is on, of what reading a file must not lead to."""

    def __init__(self):
        self.is_on, self.seen = False, []
        self._known = set()
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def on(self):
        """Note events while the block runs."""
        self._known = {name.partition(".")[0] for name in sys.modules} | sys.stdlib_module_names
        self._known |= _READERS
        self.seen, self.is_on = [], True
        try:
            yield
        finally:
            self.is_on = False

    def _hook(self, event, arguments):
        if self.is_on and self._is_forbidden(event, arguments):
            self.is_on = False  # what is done for the note itself
            self.seen.append(f"{event} {arguments!r:.200}")
            self.is_on = True

    def _is_forbidden(self, event, arguments):
        if event == "open":
            _, mode, flags = arguments
            return bool(set(mode or "") & set("wxa+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR))
        if event == "import":
            return arguments[0].partition(".")[0] not in self._known
        if event in ("exec", "compile"):  # libraries make classes so, from their own files
            return not _is_of_library()
        return event.startswith((*_NEVER, *_CHANGES))


def _is_of_library():
    """Tell whether the nearest caller outside of this file is a library's or Python's own code."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    name = "" if frame is None else frame.f_code.co_filename
    return name.startswith("<frozen importlib") or any(
        name.endswith(f"/{part}.py")
        for part in ("collections/__init__", "dataclasses", "enum", "ast")
    )


def read_mutations(target, folder, seed, first, count):
    """Read mutated files `first` to `first + count` of a target; tell each result in a line."""
    from tests.campaigns.targets import TARGETS  # noqa: PLC0415  # it needs every package

    found = TARGETS[target]
    victims = found.prepare(folder)
    originals = [path.read_bytes() for path in victims]
    warnings.simplefilter("ignore")
    watch = Watch()
    for path in victims:  # also imports what reading needs
        with contextlib.suppress(Exception) if first else contextlib.nullcontext():
            found.load(path)
    _limit_memory()
    for number in range(first, first + count):
        rng = random.Random(f"{target} {seed} {number}")  # noqa: S311  # to be repeated
        index = rng.randrange(len(victims))
        content = mutate(originals[index], rng.choice(originals), rng)
        victims[index].write_bytes(content)
        print(json.dumps({"number": number}), flush=True)  # noqa: T201
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        result = _read(found, victims[index], watch)
        signal.alarm(0)
        print(json.dumps({"number": number, **result}), flush=True)  # noqa: T201
        victims[index].write_bytes(originals[index])


def _limit_memory():
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


def _read(target, path, watch):
    """Return {"ended": how} and, where that is not as promised, {"wrong": why}."""
    try:
        with watch.on() if target.is_watched else contextlib.nullcontext():
            target.load(path)
        result = {"ended": "read"}
    except (ValueError, TypeError, FileNotFoundError) as error:  # told in a line, exit code 2
        result = {"ended": "refused"}
        text = str(error)
        if len(text) > 2000 or path.parent.name not in text and path.name not in text:
            result["wrong"] = f"message: {text[:300]!r}"
        if isinstance(error, TypeError):
            result["wrong"] = "".join(traceback.format_exception(error))[-1500:]
    except BaseException as error:  # noqa: BLE001  # a finding
        result = {"ended": "failed", "wrong": "".join(traceback.format_exception(error))[-1500:]}
    if watch.seen:
        result["wrong"] = f"did {watch.seen[:3]}"
    return result


def run(targets, folder, *, seed, deadline, step=50):
    """Read files of the targets in turn, so many at once, until `deadline` says so.

    Returns: a row a target with its counts, and what was found.
    """
    rows, first = {}, 0
    while not deadline():
        for target in targets:
            row = rows.setdefault(target, {"attacks": 0, "ended": Counter(), "found": []})
            if deadline():
                break
            with tempfile.TemporaryDirectory(dir=folder) as place:
                ended, found = attack(target, Path(place), seed=seed, first=first, count=step)
            row["attacks"] += ended.total()
            row["ended"] += ended
            row["found"] += [[number, wrong] for number, wrong in found.items()]
        first += step
    return rows


def attack(target, folder, *, seed, first, count):
    """Read mutated files in children; return the results, and the findings by number."""
    ended, found, at = Counter(), {}, first
    while at < first + count:
        place = folder / f"{target.replace(' ', '_').replace('.', '')}-{at}"
        place.mkdir()
        fork = Fork(read_mutations, target, place, seed, at, first + count - at)
        code, text = fork.end()
        last, is_done = None, False
        for line in text.splitlines():
            if not line.startswith('{"number"'):
                continue
            row = json.loads(line)
            last, is_done = row["number"], "ended" in row
            if is_done:
                ended[row["ended"]] += 1
                if "wrong" in row:
                    found[last] = row["wrong"]
        if last is None:
            raise RuntimeError(f"{target}: no file was read: {text[-2000:]}")
        at = last + 1
        if not is_done:
            how = "took too long" if code == -signal.SIGALRM else f"ended the process ({code})"
            ended[how] += 1
            found[last] = f"{how}: {text[-800:]}"
    return ended, found
