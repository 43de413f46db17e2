"""Processes of scripts, without each waiting for torch: forks of a server that has imported it.

What only a fresh interpreter shows, its start and its end, is for tests/helpers/under_torchrun.py.
"""

import contextlib
import importlib
import multiprocessing
import os
import socket
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS = ("training", "recognition", "segmentation", "refinement", "interpreter", "identities")
PRELOAD = [__name__, *(f"{package}.jobs" for package in JOBS)]
PRELOAD += ["evaluation.quality", "evaluation.html", "torch.utils.tensorboard"]
SECONDS = 120


def run_script(name, *words):
    """Run a script as its command line would."""
    sys.argv = [f"{name}.py", *map(str, words)]
    importlib.import_module(name).main()


class Fork:
    """Another process, which calls a function of a module.

    Attributes:
        process: it leads a process group of its own.
        written: the stream of what it writes.
    """

    def __init__(self, function, *arguments, **environment):
        if "forkserver" not in multiprocessing.get_all_start_methods():
            pytest.skip("needs fork")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        with contextlib.chdir(ROOT):  # where the server looks for modules
            forkserver.ensure_running()
        reader, writer = context.Pipe(duplex=False)
        self.process = context.Process(
            target=_call, args=(writer, environment, function, arguments)
        )
        self.process.start()
        writer.close()
        with reader:
            self.written = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")

    def send(self, number):
        """Send the group a signal, also the workers, as clusters and terminals do."""
        with contextlib.suppress(ProcessLookupError):  # before it is one, or after its end
            os.killpg(self.process.pid, number)

    def end(self, sent=None):
        """Send the group a signal, if any; return the exit code and what was still written."""
        if sent is not None:
            self.send(sent)
        with self.written:
            text = self.written.read()
        self.process.join()
        return self.process.exitcode, text


def _call(writer, environment, function, arguments):
    import torch  # noqa: PLC0415  # there already

    os.setsid()
    for number in (1, 2):
        os.dup2(writer.fileno(), number)
    writer.close()
    os.environ.update(environment)
    torch.set_num_threads(1)
    function(*arguments)


def run_ranks(count, function, *arguments):
    """Call a function in so many processes as torchrun starts them; return what they write."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = ({"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count))
    started = [Fork(function, *arguments, **common, **rank) for rank in ranks]
    for fork in started:
        fork.process.join(SECONDS)  # the others of one that fails may wait for ever
    for fork in started:
        fork.process.kill()
    codes, texts = zip(*(fork.end() for fork in started), strict=True)
    assert codes == (0,) * count, "".join(texts)
    return "".join(texts)
