"""benchmarks/gpu_check.sh, with a program in the place of Python that does nothing."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.sh"
STAND_IN = """#!/bin/sh
case "$*" in
    *is_available*) exit "$NO_GPU" ;;
    *--batch=96*) echo "$AT_96"; exit 1 ;;
    *"-m pytest"*) echo "3 passed in 1s" ;;
    *) echo "| a | b |" ;;
esac
"""


@pytest.fixture
def check(tmp_path):
    """Run the script; return its exit code and what summary.md says."""
    python = tmp_path / "python"
    python.write_text(STAND_IN, encoding="utf-8")
    python.chmod(0o755)
    out = tmp_path / "out"

    def run(**variables):
        given = {"PYTHON": str(python), "NO_GPU": "0", "AT_96": "", **variables}
        command = ["bash", str(SCRIPT), str(out)]
        env = {**os.environ, **given}
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        return done.returncode, (out / "summary.md").read_text(encoding="utf-8")

    return run


def test_the_largest_batch_that_fits_ends_it_well(check):
    code, summary = check(AT_96="Error: the GPU's memory is full, choose smaller batches")
    assert code == 0
    assert "## tests (exit code 0)\n\n3 passed in 1s" in summary
    assert "## train_step_batch48 (exit code 0)\n\n| a | b |" in summary
    assert "## train_step_batch96 (exit code 1)" in summary
    assert "batch192" not in summary


def test_another_failure_is_one(check):
    code, summary = check(AT_96="Traceback (most recent call last):")
    assert code == 1
    assert "## train_step_batch96 (exit code 1)" in summary


def test_steps_without_time_are_named(check):
    code, summary = check(LIMIT_SEC="0")
    assert code == 1
    assert "== tests: skipped, no time left" in summary


def test_without_a_gpu(check):
    code, summary = check(NO_GPU="1")
    assert (code, summary) == (2, "")
