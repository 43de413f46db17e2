"""All scripts: --help has examples and does without torch, and the jobs they name are there."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))
LAZY = re.compile(r'lazy\(\s*"([\w.]+):(\w+)"')
TARGETS = sorted(
    {target for name in SCRIPTS for target in LAZY.findall((ROOT / f"{name}.py").read_text())}
)


def test_help_does_without_torch():
    code = f"import sys, {', '.join(SCRIPTS)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_has_two_examples(name):
    main = importlib.import_module(name).main
    for words in ([], *([command] for command in getattr(main, "commands", ()))):
        result = CliRunner().invoke(main, [*words, "--help"])
        assert result.exit_code == 0
        assert result.output.count(" ".join([f"python {name}.py", *words])) >= 2


@pytest.mark.parametrize(("module", "name"), TARGETS)
def test_the_jobs_that_scripts_name_are_there(module, name):
    assert callable(getattr(importlib.import_module(module), name))
