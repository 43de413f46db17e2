"""What all command lines share: errors and exit codes, log messages, progress bars, processes."""

import contextlib
import errno
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import click

from dnnlib import files
from dnnlib.options import JobError, StoppedError

# Of OSError, those that another option cures; a full disk is none of them.
WRONG_PLACES = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_WRONG_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)


def normalize(name: str) -> str:
    """Return the form in which names of options are compared: `-` for `_`, small letters."""
    return name.lower().replace("_", "-")


CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "show_default": True,
    "token_normalize_func": normalize,
}


@contextlib.contextmanager
def friendly_errors() -> Iterator[None]:
    """Turn errors that packages raise into one line: exit code 2 for bad input.

    A computation that fails on good input (numbers that are not finite, a full GPU or disk, a disk
    that fails) ends with exit code 1.
    """
    try:
        yield
    except StoppedError as stop:
        raise click.exceptions.Exit(stop.exit_code) from stop
    except (FloatingPointError, JobError) as error:
        raise click.ClickException(str(error)) from error
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which this package does not know
            raise
        reason = str(error).split(". ")[0]
        raise click.ClickException(
            f"the GPU's memory is full, choose smaller batches, networks or images: {reason}"
        ) from error
    except (ValueError, *WRONG_PLACES) as error:
        raise click.UsageError(_one_line(error)) from error
    except OSError as error:
        number = _number_of(error)
        if number in _WRONG_NAMES:
            raise click.UsageError(_one_line(error)) from error
        if number not in files.NO_ROOM | files.FAILURES:
            raise
        remedy = "make room and" if number in files.NO_ROOM else "when it is cured,"
        advice = f"what was there before is whole, so {remedy} repeat the command"
        raise click.ClickException(f"{_one_line(error)}; {advice}") from error


def _number_of(error: OSError) -> int | None:
    """Return an error's errno, also of a DataLoader worker's, of which PyTorch makes a text."""
    found = re.search(r"\n\w+: \[Errno (\d+)\][^\n]*\s*$", str(error))
    return int(found[1]) if error.errno is None and found else error.errno


def _one_line(error: Exception) -> str:
    """Return the sentence of an error; the system's own are put as ours are, the file first."""
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror.lower()
        return reason if error.filename is None else f"{error.filename}: {reason}"
    text = str(error)
    if text.startswith(f"Caught {type(error).__name__} in DataLoader worker process"):
        # PyTorch puts the worker's whole traceback there; its last line is what the worker said.
        text = text.rpartition(f"\n{type(error).__name__}: ")[2]
    return " ".join(text.split())


def start_logging() -> None:
    """Show log messages on standard error."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    if not root.handlers:
        console = logging.StreamHandler()
        console.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(console)


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Also append log messages to a file while the block runs."""
    start_logging()
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


class _LogFile(logging.FileHandler):
    """A log that a full disk leaves incomplete: the run ends at the next file that counts."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Print no traceback."""

    def close(self) -> None:
        """Close the file, also where its last lines have no room."""
        with contextlib.suppress(OSError):
            super().close()


def progress_bar(done: int, total: int, unit: str = "img") -> Callable[[int], None]:
    """Return a function that counts further items on a bar, which shows only on a terminal."""
    from tqdm import tqdm  # noqa: PLC0415  # not needed for --help

    bar = tqdm(total=total, initial=done, unit=unit, unit_scale=True, disable=None, leave=False)
    return bar.update


def is_first_process() -> bool:
    """Tell whether this is the process that speaks: torchrun's rank 0, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def restart_under_torchrun(count: int) -> NoReturn:
    """Replace this process by torchrun with `count` processes of the same command.

    The end of one process ends the others, and torchrun says which one and why.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={count}", *sys.argv]
    if os.name == "nt":  # where exec returns to the shell at once
        sys.exit(subprocess.call(command))
    os.execv(sys.executable, command)  # noqa: S606  # no shell: a list of arguments
