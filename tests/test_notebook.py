"""main.ipynb: its cells run in order at tiny size, and it is stored without outputs."""

import importlib
import json
import shutil
import sys
import types
from pathlib import Path

import pytest
from click.testing import CliRunner

from renderer import auto_annotate
from tests.helpers.images import write_json

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = json.loads((ROOT / "main.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
TINY_NETWORK = {"cbase": 64, "cmax": 4, "w-dim": 8, "z-dim": 8, "map-depth": 1, "pl-weight": 0}


def source(cell):
    return "".join(cell["source"])


class Screen:
    """Stands in for IPython.display: what would be shown must be there."""

    def __init__(self):
        self.pictures = []

    def module(self):
        module = types.ModuleType("IPython.display")
        module.Image = module.IFrame = self.load
        module.display = self.pictures.append
        return module

    def load(self, filename, **_):
        data = Path(filename).read_bytes()
        assert data[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"<!DO"), (filename, data[:4])
        return Path(filename).name


def run_here(script, *words):
    """Run a script in this process: only the first start of torch takes its time."""
    command = importlib.import_module(script.removesuffix(".py")).main
    result = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, f"{script}: {result.output[-500:]}"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder in which the notebook finds its configurations."""
    (tmp_path / "EXPERIMENTS").mkdir()
    for name in ("example", "interpreter_example"):
        shutil.copytree(ROOT / "EXPERIMENTS" / name, tmp_path / "EXPERIMENTS" / name)
    path = tmp_path / "EXPERIMENTS/interpreter_example/train_datagan.json"
    write_json(path, json.loads(path.read_text()) | {"max_steps": 100})
    for script in ROOT.glob("*.py"):
        (tmp_path / script.name).symlink_to(script)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # processes to render with would wait for torch
    return tmp_path


@pytest.fixture
def screen(monkeypatch):
    screen = Screen()
    package = types.ModuleType("IPython")
    package.version_info = (9, 0)  # matplotlib asks
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", screen.module())
    return screen


def tiny_settings():
    network = [f"--{name}={value}" for name, value in TINY_NETWORK.items()]
    return {
        "SIZE": 16,
        "PEOPLE": 20,
        "SAMPLES": 4,
        "KIMG": 1,
        "EPOCHS": 1,
        "LABELLED": 4,
        "NEW_PEOPLE": 2,
        "DEVICE": "cpu",
        "NETWORK": [*network, "--aug=noaug", "--batch=100", "--mbstd-group=4"],
        "LIMITS": ["--privacy=1", "--same-identity=-1", "--too-similar=1"],
    }


@pytest.fixture
def _quick_annotator(monkeypatch):
    """The automatic annotator learns little: most of the notebook's time would be its."""
    original = auto_annotate.AnnotatorOptions
    small = {"renders": 8, "heldout": 2, "width": 8, "steps": 10, "batch": 4}
    monkeypatch.setattr(
        auto_annotate, "AnnotatorOptions", lambda **changes: original(**{**small, **changes})
    )


@pytest.mark.usefixtures("_quick_annotator")
def test_cells_run(place, screen):
    names = {}
    for number, cell in enumerate(CODE):
        exec(compile(source(cell), f"cell {number}", "exec"), names)  # noqa: S102 - our own
        if "parameters" in cell["metadata"].get("tags", []):
            changes = tiny_settings()
            assert changes.keys() <= names.keys()
            names.update(changes)
        if "def run(" in source(cell):
            names["run"] = run_here
    assert {"contact_sheet.png", "grid.png", "overview.png", "report.html"} <= set(screen.pictures)


def test_the_helper_runs_a_process(place, screen, capsys):
    names = {}
    helper = next(source(cell) for cell in CODE if "def run(" in source(cell))
    exec(compile(helper, "helper", "exec"), names)  # noqa: S102 - our own
    names["run"]("demo.py", "--list")
    assert "$ python demo.py --list" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="exit code 2"):
        names["run"]("demo.py", "--sise=3")


def test_stored_without_outputs():
    assert NOTEBOOK["nbformat"] == 4
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in CODE:
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    text = json.dumps(NOTEBOOK)
    assert "/home/" not in text
    assert "/tmp/" not in text  # noqa: S108
