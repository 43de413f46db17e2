"""Options declared as fields: what a command line, a file and Python make of them."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner

from dnnlib.command import command, command_group, lazy
from dnnlib.config import to_dict
from dnnlib.options import Job, Options, device_option, group, option, seed_option


class Shape(Enum):
    ROUND = "round"
    FLAT = "flat"


def pairs(text):
    name, sign, factor = text.partition("=")
    if not sign:
        raise ValueError(f"expected NAME=FACTOR, got {text!r}")
    return name, float(factor)


@dataclass(frozen=True, kw_only=True)
class LossOptions(Options):
    weight: float = option(1.0, gt=0, le=10, help="Weight.", heading="Loss")
    smoothing: float = option(0.0, ge=0, lt=0.5, help="Smoothing.")
    classes: int = 3  # no option, though another is called so


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Train something.

    At length.
    """

    data: Path = option(help="Data.", metavar="DIR", heading="Data")
    extra: tuple[Path, ...] = option((), help="More data.")
    mix: Path | None = option(None, help="Mixed in.")
    mix_share: float = option(1.0, help="Share of them.", needs="mix")
    loss: LossOptions = group(LossOptions)
    batch: int = option(8, ge=1, help="Batch.", heading="Training", aliases=("batch_size",))
    shape: Shape = option(Shape.ROUND, help="Shape.")
    kinds: tuple[Literal["rgb", "nir"], ...] = option(("rgb",), name="kind", help="Kinds.")
    classes: Literal[4, 10] = option(10, help="Classes.")
    mirror: bool = option(False, help="Flip.", off=("--straight",))
    layout: bool | None = option(None, help="Layout.")
    limit: float | None = option(None, alone=0.5, help="Limit.")
    regions: tuple[tuple[str, float], ...] = option(
        (), name="region", parse=pairs, is_repeated=True, help="Factors."
    )
    numbers: tuple[int, ...] = option(
        (1, 2), parse=lambda text: tuple(map(int, text.split(","))), help="Numbers."
    )
    ends: tuple[int, ...] | None = option(None, nargs=2, help="First and last.")
    seed: int = seed_option()
    device: str = device_option()


DEFAULTS = TrainOptions(data=Path("x"))


@dataclass
class Echo(Job):
    options: Options

    def describe(self):
        return to_dict(self.options)

    def run(self, progress):
        SEEN.append(self.options)
        return "done"


SEEN = []
main = command(TrainOptions, Echo, examples="  train --data=x", ignored=["--old_thing"])


def run(*arguments, code=0, command=main):
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def parsed(*arguments):
    assert run("--data=x", *arguments).endswith("done\n")
    return SEEN.pop()


def saved(tmp_path, content):
    path = tmp_path / "options.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_defaults_stand_in_the_fields():
    assert parsed() == DEFAULTS


WRITTEN = {
    ("--batch=3",): {"batch": 3},
    ("--batch_size", "3"): {"batch": 3},
    ("--BATCH-SIZE=3",): {"batch": 3},
    ("--extra=a", "--extra=b"): {"extra": (Path("a"), Path("b"))},
    ("--shape=flat",): {"shape": Shape.FLAT},
    ("--kind=nir", "--kind=rgb"): {"kinds": ("nir", "rgb")},
    ("--classes=4",): {"classes": 4},
    ("--mirror",): {"mirror": True},
    ("--mirror=1", "--layout=false"): {"mirror": True, "layout": False},
    ("--mirror", "--straight"): {},
    ("--mirror", "--no-mirror", "--no_layout"): {"layout": False},
    ("--limit", "--batch=3"): {"limit": 0.5, "batch": 3},
    ("--limit=0.1",): {"limit": 0.1},
    ("--region=hair=5", "--region=eyes=2"): {"regions": (("hair", 5.0), ("eyes", 2.0))},
    ("--numbers=3,4",): {"numbers": (3, 4)},
    ("--ends", "3", "4"): {"ends": (3, 4)},
    ("--weight=2",): {"loss": LossOptions(weight=2.0)},
    ("--mix=m", "--mix-share=0.5"): {"mix": Path("m"), "mix_share": 0.5},
    ("--old-thing=7",): {},
}


@pytest.mark.parametrize("line", WRITTEN)
def test_what_a_command_line_means(line):
    assert parsed(*line) == dataclasses.replace(DEFAULTS, **WRITTEN[line])


@pytest.mark.parametrize(
    ("line", "option", "rule"),
    [
        (["--batch=0"], "--batch", "x>=1"),
        (["--weight=0"], "--weight", "0<x<=10"),
        (["--weight=nan"], "--weight", "finite"),
        (["--smoothing=0.5"], "--smoothing", "0<=x<0.5"),
        (["--mix-share=inf", "--mix=m"], "--mix-share", "finite"),
        (["--shape=square"], "--shape", "round"),
        (["--classes=5"], "--classes", "10"),
        (["--mirror=2"], "--mirror", "boolean"),
        (["--region=hair"], "--region", "NAME=FACTOR"),
        (["--mix-share=0.5"], "--mix-share", "--mix"),
        (["--bacth=3"], "--bacth", "--batch"),
    ],
)
def test_an_error_names_option_and_rule(line, option, rule):
    output = run("--data=x", *line, code=2)
    assert option in output
    assert rule in output
    assert SEEN == []


@pytest.mark.parametrize(
    "changes",
    [{"batch": 0}, {"batch": float("nan")}, {"classes": 5}, {"kinds": ("rgb", "grey")}],
)
def test_python_keeps_the_rules_too(changes):
    with pytest.raises(ValueError, match="--(batch|classes|kind) must be"):
        dataclasses.replace(DEFAULTS, **changes)


def test_required_options_are_required():
    assert "--data" in run(code=2)


def test_file_goes_before_defaults_and_command_line_before_the_file(tmp_path):
    path = saved(tmp_path, {"batch-size": 2, "--weight": 0.5, "KIND": ["nir"], "mirror": True,
                            "layout": None, "numbers": "5", "ends": [1, 2]})  # fmt: skip
    expected = {"loss": LossOptions(weight=0.5), "kinds": ("nir",), "numbers": (5,)}
    expected["ends"] = (1, 2)
    for line in (("--batch=3", "--no-mirror", f"--config={path}"),
                 (f"--config={path}", "--batch=3", "--no-mirror")):  # fmt: skip
        assert parsed(*line) == dataclasses.replace(DEFAULTS, batch=3, **expected)
    changed = dataclasses.replace(DEFAULTS, batch=2, mirror=True, **expected)
    assert parsed(f"--config={path}") == changed


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"bacth": 2}, "'batch'"),
        ({"config": "other.json"}, "'config'"),
        ([1], "object"),
        ('{"batch": 2,}', "JSON"),
        ({"batch": 2.5}, "--batch"),
        ({"batch": [2]}, "batch"),
        ({"weight": True}, "--weight"),
        ({"mix-share": 0.5}, "--mix-share"),
    ],
)
def test_bad_files_are_refused_by_key(tmp_path, content, named):
    output = run("--data=x", "--config", saved(tmp_path, content), code=2)
    assert named in output


def test_dry_run_prints_what_was_resolved():
    content = json.loads(run("--data=x", "-n", "--shape=flat", "--weight=3"))
    assert (content["shape"], content["loss"]["weight"], content["data"]) == ("flat", 3.0, "x")
    assert SEEN == []


def test_help_has_headings_defaults_and_examples():
    lines = run("--help").splitlines()
    headings = [line for line in lines if line and not line.startswith(" ") and line.endswith(":")]
    assert headings == ["Data:", "Loss:", "Training:", "General:"]
    text = "\n".join(lines)
    assert text.index("--smoothing") < text.index("Training:") < text.index("--batch")
    for part in ("Train something.", "[default: round]", "train --data=x", "--dry-run"):
        assert part in text
    assert "old-thing" not in text


def test_several_commands_of_one_script():
    both = command_group({"a": main, "b": main}, help="Two.")
    assert run("b", "--data=x", "--batch_size=2", command=both) == "done\n"
    assert SEEN.pop().batch == 2


def test_lazy_functions_are_imported_when_called(tmp_path, monkeypatch):
    (tmp_path / "late_job.py").write_text("def prepare(x, y=0):\n    return x + y\n")
    monkeypatch.syspath_prepend(tmp_path)
    function = lazy("late_job:prepare")
    assert "late_job" not in sys.modules
    assert function(1, y=2) == 3
