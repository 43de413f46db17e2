"""Command lines: precedence of --config, spellings, one-line errors and their exit codes."""

import errno
import json
import logging
import os

import click
import pytest
import torch
from click.testing import CliRunner
from torch.utils.data import DataLoader, Dataset

from dnnlib import cli


@click.command(cls=cli.GroupedCommand, context_settings=cli.CONTEXT)
@cli.option_group(
    "Training",
    click.option("--batch", type=int, default=1),
    click.option("--nir-weight", "--NIR_weight", "nir_weight", type=float, default=1.0),
    cli.bool_option("--mirror", default=False, help="Flip."),
    cli.bool_option("--nhwc", help="Layout."),
)
@cli.option_group("Files", cli.config_option(), click.option("--name", required=True))
@click.option("--loose", multiple=True)
@click.option("--fresh", is_flag=True)
def command(**options):
    click.echo(json.dumps(options, sort_keys=True))


def run(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def values(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def config(tmp_path, content):
    path = tmp_path / "options.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# --config


def test_defaults_without_a_file():
    expected = {"batch": 1, "nir_weight": 1.0, "mirror": False, "nhwc": None, "fresh": False}
    assert values("--name=x") == {**expected, "name": "x", "loose": []}


def test_file_goes_before_defaults_and_command_line_before_the_file(tmp_path):
    path = config(tmp_path, {"batch": 2, "nir-weight": 0.5, "name": "file"})
    result = values("--config", path)
    assert (result["batch"], result["nir_weight"], result["name"]) == (2, 0.5, "file")
    for arguments in (("--batch=3", "--config", path), ("--config", path, "--batch=3")):
        result = values(*arguments)
        assert (result["batch"], result["nir_weight"]) == (3, 0.5)


@pytest.mark.parametrize("key", ["nir-weight", "nir_weight", "NIR_weight", "--nir-weight"])
def test_any_spelling_of_an_option_is_a_key(tmp_path, key):
    assert values("--name=x", "--config", config(tmp_path, {key: 0.25}))["nir_weight"] == 0.25


@pytest.mark.parametrize(("value", "expected"), [(True, True), (0, False), ("yes", True)])
def test_booleans_in_a_file(tmp_path, value, expected):
    path = config(tmp_path, {"mirror": value, "nhwc": value, "fresh": value})
    result = values("--name=x", "--config", path)
    assert result["mirror"] is result["nhwc"] is result["fresh"] is expected
    assert values("--name=x", "--config", path, "--mirror=1")["mirror"] is True


def test_null_is_the_default_and_lists_are_for_options_that_repeat(tmp_path):
    path = config(tmp_path, {"batch": None, "nhwc": None, "loose": ["a", 2, True], "name": 7})
    result = values("--config", path)
    assert (result["batch"], result["nhwc"], result["name"]) == (1, None, "7")
    assert result["loose"] == ["a", "2", "true"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"bacth": 2}, "unknown key 'bacth'; did you mean 'batch'?"),
        ({"zzz": 2}, "unknown key 'zzz'"),
        ({"config": "other.json"}, "unknown key 'config'"),
        ([1], "expected an object of options"),
        ('{"batch": 2,}', "not valid JSON"),
        ({"batch": "many"}, "'many' is not a valid integer"),
        ({"batch": 2.5}, "'2.5' is not a valid integer"),
        ({"batch": [2]}, "batch must be text, a number, true or false, got [2]"),
        ({"batch": {"of": 2}}, 'batch must be text, a number, true or false, got {"of": 2}'),
        ({"nir-weight": True}, "'true' is not a valid float"),
        ({"mirror": 2}, "'2' is not a valid boolean"),
    ],
)
def test_bad_files_end_with_exit_code_2(tmp_path, content, message):
    result = run("--name=x", "--config", config(tmp_path, content))
    assert result.exit_code == 2
    assert message in result.output


def test_absent_file_ends_with_exit_code_2(tmp_path):
    result = run("--name=x", "--config", tmp_path / "none.json")
    assert result.exit_code == 2
    assert "none.json: no such file" in result.output


def test_json_errors_name_the_line(tmp_path):
    result = run("--name=x", "--config", config(tmp_path, '{\n "batch": 2\n "seed": 1}'))
    assert "options.json: not valid JSON: Expecting ',' delimiter, line 3" in result.output


# Options


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--mirror", True),
        ("--mirror=1", True),
        ("--mirror=true", True),
        ("--mirror=0", False),
        ("--mirror=false", False),
        ("--mirror=no", False),
    ],
)
def test_spellings_of_booleans(argument, expected):
    assert values("--name=x", argument)["mirror"] is expected


def test_other_booleans_are_refused():
    result = run("--name=x", "--mirror=2")
    assert result.exit_code == 2
    assert "'2' is not a valid boolean" in result.output


def test_help_lists_options_under_their_headings():
    lines = run("-h").output.splitlines()
    headings = [line for line in lines if line and not line.startswith(" ") and line.endswith(":")]
    assert headings == ["Training:", "Files:", "General:"]
    places = [
        next(number for number, line in enumerate(lines) if text in line)
        for text in ("Training:", "--batch", "--nhwc", "Files:", "--config", "General:", "--loose")
    ]
    assert places == sorted(places)
    assert any("[default: 1]" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch=1",), "--batch goes with --loose, which is not given"),
        (("--nir-weight=1",), "--nir-weight goes with --loose, which is not given"),
        (("--NIR_weight=1", "--loose=x"), ""),
        ((), ""),
    ],
)
def test_options_that_go_with_another(tmp_path, arguments, message):
    for line in (arguments, _in_a_file(tmp_path, arguments)):
        result = CliRunner().invoke(together, [str(word) for word in line])
        assert result.exit_code == (2 if message else 0)
        assert message in result.output


def _in_a_file(tmp_path, arguments):
    pairs = [argument.split("=") for argument in arguments]
    content = {key: [value] if key == "--loose" else value for key, value in pairs}
    return "--config", config(tmp_path, {"batch": None, **content})


@click.command()
@click.option("--batch", default=1)
@click.option("--nir-weight", "--NIR_weight", "nir_weight", type=float)
@click.option("--loose", multiple=True)
@cli.config_option()
def together(**_options):
    with cli.friendly_errors():
        cli.check_companions({"loose": ("batch", "nir_weight")})


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
    ],
)
def test_errors_of_the_system_read_like_ours(number, rule):
    result = failing(OSError(number, os.strerror(number), "runs"))
    assert result.exit_code == 2
    assert result.output.splitlines()[-1] == f"Error: runs: {rule}"


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


def test_a_failed_computation_has_exit_code_1():
    result = failing(FloatingPointError("gradients were not finite"))
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
    "error", [KeyError("bug"), AssertionError("bug"), TypeError("bug"), RuntimeError("bug")]
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


def test_messages_go_to_standard_error_once_and_into_the_file(tmp_path, root_logger, capsys):
    root_logger.handlers.clear()  # pytest's own
    cli.start_logging()
    cli.start_logging(tmp_path / "log.txt")
    logging.getLogger("training.x").info("tick %d", 3)
    logging.getLogger("training.x").debug("quiet")
    captured = capsys.readouterr()
    assert captured.err == "tick 3\n"
    assert captured.out == ""
    assert len(root_logger.handlers) == 2
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert line.endswith(" tick 3")


def test_a_log_file_is_continued(tmp_path, root_logger):
    (tmp_path / "log.txt").write_text("earlier\n")
    cli.start_logging(tmp_path / "log.txt")
    logging.getLogger("x").info("later")
    assert root_logger.level == logging.INFO
    assert (tmp_path / "log.txt").read_text().startswith("earlier\n")


def test_progress_is_silent_without_a_terminal(capsys):
    advance = cli.progress_bar(2, 10)
    advance(3)
    assert capsys.readouterr() == ("", "")
