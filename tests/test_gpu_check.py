"""benchmarks/gpu_check.sh, with a program in the place of Python that does next to nothing."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.sh"
STAND_IN = """#!/bin/sh
case "$*" in
    *is_available*) exit "$NO_GPU" ;;
    *"$FAILS"*) echo "Traceback"; exit 1 ;;
    *--nobench=1*) echo "first run auto Gmain: 1.0 s"; sleep "$SLOW" ;;
    *"-m pytest"*) echo "3 passed in 1s" ;;
    *) echo "| a | b |" ;;
esac
"""


@pytest.fixture
def check(tmp_path):
    """Run the script; return its exit code, what summary.md says, and the names of packed files."""
    python = tmp_path / "python"
    python.write_text(STAND_IN, encoding="utf-8")
    python.chmod(0o755)
    out = tmp_path / "out"

    def run(**variables):
        given = {
            "PYTHON": str(python),
            "DEVICE": "cuda",
            "NO_GPU": "0",
            "FAILS": "no part",
            "SLOW": "0",
        }
        command = ["bash", str(SCRIPT), str(out)]
        env = {**os.environ, **given, **variables}
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        packed = tmp_path / "out.tar.gz"
        names = []
        if packed.exists():
            with tarfile.open(packed) as archive:
                names = archive.getnames()
        return done.returncode, (out / "summary.md").read_text(encoding="utf-8"), names

    return run


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_part_is_reported_and_packed(device, check):
    code, summary, packed = check(DEVICE=device)
    assert ("## build" in summary) == (device == "cuda")
    assert "## tests (exit code 0, 0 s)\n\n3 passed in 1s" in summary
    assert "## filter (exit code 0" in summary
    assert "out/filter.log" in packed
    assert code == 0


def test_a_part_that_fails_loses_nothing_else(check):
    code, summary, packed = check(FAILS="benchmarks/generate.py")
    assert code == 1
    assert "## generate (exit code 1" in summary
    assert "## filter (exit code 0" in summary
    assert "out/generate.log" in packed


def test_a_part_that_is_cut_keeps_what_it_printed(check):
    _, summary, packed = check(LIMIT_SEC="6", SLOW="30")
    assert "## step_untuned (exit code 124" in summary
    assert "first run auto Gmain: 1.0 s" in summary
    assert "## filter: skipped, no time left" in summary
    assert "out/step_untuned.log" in packed


def test_without_a_gpu(check):
    assert check(NO_GPU="1") == (2, "", [])
