"""What command lines share: one-line errors and their exit codes, logging, progress."""

import errno
import logging
import os
from types import SimpleNamespace

import click
import pytest
import torch
from click.testing import CliRunner
from torch.utils.data import DataLoader, Dataset

from dnnlib import cli, files
from dnnlib.options import JobError

# Errors


def failing(error):
    @click.command()
    def fail():
        with cli.friendly_errors():
            raise error

    return CliRunner().invoke(fail, [])


@pytest.mark.parametrize("error", [ValueError, *cli.WRONG_PLACES])
def test_bad_input_is_one_line_and_exit_code_2(error):
    result = failing(error("pairs/1.png:\n  expected  RGB,\tgot CMYK"))
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == "Error: pairs/1.png: expected RGB, got CMYK"
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("number", "rule"),
    [
        (errno.EEXIST, "file exists"),
        (errno.ENOTDIR, "not a directory"),
        (errno.EACCES, "permission denied"),
        (errno.ENAMETOOLONG, "file name too long"),
    ],
)
def test_errors_of_the_system_read_like_ours(number, rule):
    result = failing(OSError(number, os.strerror(number), "runs"))
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == f"Error: runs: {rule}"


@pytest.mark.parametrize("number", sorted(files.NO_ROOM | files.FAILURES))
@pytest.mark.parametrize("named", [("runs/a.pt",), ()])
def test_a_full_or_failing_disk_is_one_line(number, named):
    result = failing(OSError(number, os.strerror(number), *named))
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert os.strerror(number).lower() in line
    assert ("runs/a.pt" in line) == bool(named)


def test_a_log_on_a_full_disk_says_nothing(tmp_path, capsys):
    def full(*_text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with cli.log_to(tmp_path / "log.txt"):
        log = logging.getLogger().handlers[-1]
        log.stream.close()
        log.stream = SimpleNamespace(write=full, flush=full, close=full)
        logging.getLogger("x").warning("line")
    assert "Traceback" not in capsys.readouterr().err


class Broken(Dataset):
    """Fails with an error that another one caused."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise self.error from OSError("image file is truncated")


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError])
def test_what_a_worker_of_a_loader_said_is_the_line(kind):
    loader = DataLoader(Broken(kind("pairs/1.png:\n  damaged")), num_workers=1)
    with pytest.raises(kind) as caught:
        next(iter(loader))
    assert "Traceback" in str(caught.value)
    result = failing(caught.value)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == "Error: pairs/1.png: damaged"


@pytest.mark.parametrize(("number", "code"), [(errno.EIO, 1), (errno.ENOSPC, 1), (errno.EACCES, 2)])
def test_a_disk_that_fails_in_a_worker_of_a_loader_is_one_line(number, code):
    error = OSError(number, os.strerror(number), "pairs/1.png")
    with pytest.raises(OSError, match="Traceback") as caught:
        next(iter(DataLoader(Broken(error), num_workers=1)))
    result = failing(caught.value)
    assert result.exit_code == code
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: ")
    assert os.strerror(number) in last
    assert "pairs/1.png" in last


def test_a_reader_that_has_gone_is_told_nothing():
    result = failing(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
    assert (result.exit_code, result.output) == (1, "")


@pytest.mark.parametrize("kind", [FloatingPointError, JobError])
def test_a_failed_computation_has_exit_code_1(kind):
    result = failing(kind("gradients were not finite"))
    assert result.exit_code == 1
    assert result.output == "Error: gradients were not finite\n"


def test_a_full_gpu_is_one_line_and_exit_code_1():
    result = failing(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")
    )
    assert result.exit_code == 1
    assert result.output == (
        "Error: the GPU's memory is full, choose smaller batches, networks or images:"
        " CUDA out of memory\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        KeyError("bug"),
        AssertionError("bug"),
        TypeError("bug"),
        RuntimeError("bug"),
        OSError("bug"),
        OSError(errno.EINVAL, "bug"),
    ],
)
def test_bugs_are_not_hidden(error):
    assert failing(error).exception is error


# Logging and progress


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield root
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers = handlers
    root.setLevel(level)


def test_messages_go_to_standard_error_once_and_behind_those_in_the_file(
    tmp_path, root_logger, capsys
):
    root_logger.handlers.clear()  # pytest's own
    (tmp_path / "log.txt").write_text("earlier\n")
    cli.start_logging()
    with cli.log_to(tmp_path / "log.txt"):
        logging.getLogger("training.x").info("tick %d", 3)
        logging.getLogger("training.x").debug("quiet")
    logging.getLogger("training.x").info("another run's")
    captured = capsys.readouterr()
    assert captured.err == "tick 3\nanother run's\n"
    assert captured.out == ""
    first, second = (tmp_path / "log.txt").read_text().splitlines()
    assert first == "earlier"
    assert second.endswith(" tick 3")


def test_progress_is_silent_without_a_terminal(capsys):
    advance = cli.progress_bar(2, 10)
    advance(3)
    assert capsys.readouterr() == ("", "")
