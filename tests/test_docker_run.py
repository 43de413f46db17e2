"""docker_run.sh hands docker the right options; a stand-in for docker prints what it is given."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(BASH is None, reason="needs bash")


@pytest.fixture
def run(tmp_path):
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    docker.chmod(0o755)

    def call(*words, code=0, **changes):
        place = f"{docker.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": place, "HOME": str(tmp_path), **changes}
        command = [BASH, str(ROOT / "docker_run.sh"), *words]
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == code, result.stderr
        return result.stdout.splitlines()

    return call


def value(lines, option):
    return lines[lines.index(option) + 1]


def test_defaults(run, tmp_path):
    lines = run("python", "generate.py", "--seeds=0 1")
    assert lines[0] == "run"
    assert lines[-4:] == ["biface:latest", "python", "generate.py", "--seeds=0 1"]
    assert f"{ROOT}:/workspace" in lines
    assert f"{tmp_path}/.cache/biface:/cache" in lines
    assert (tmp_path / ".cache/biface").is_dir()
    assert "--shm-size=8g" in lines
    assert value(lines, "--user") == f"{os.getuid()}:{os.getgid()}"
    assert value(lines, "--gpus") == "all"
    assert "--tty" not in lines


@pytest.mark.parametrize(
    ("gpus", "given"), [("2", "2"), ("device=1", '"device=1"'), ("device=0,2", '"device=0,2"')]
)
def test_gpus(run, gpus, given):
    assert value(run("true", GPUS=gpus), "--gpus") == given


def test_choices(run, tmp_path):
    lines = run("true", GPUS="none", SHM="16g", IMAGE="mine", MOUNT="/data", CACHE=f"{tmp_path}/c")
    assert "--gpus" not in lines
    assert {"--shm-size=16g", "mine", "/data:/data", f"{tmp_path}/c:/cache"} <= set(lines)


def test_without_a_command(run):
    lines = run(code=2)
    assert lines[0] == "Run a command of this project in its container, as the calling user."
    assert lines[-1].startswith("MOUNT")


def test_the_image_keeps_caches_outside():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "BIFACE_CACHE_DIR=/cache " in text
    assert "TORCH_EXTENSIONS_DIR=/cache/" in text
    assert "USER 1000" in text
