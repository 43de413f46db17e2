"""Who may import whom, and that importing has no effect."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.imports import PACKAGES, find_breaches

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))


def files():
    """Return all source files, relative to the root."""
    found = [path for path in ROOT.glob("*.py")]
    for folder in (*PACKAGES, "tests", "benchmarks"):
        found += (ROOT / folder).rglob("*.py")
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def modules():
    """Return the dotted names of all modules of packages and scripts."""
    paths = [path for path in files() if path.split("/")[0] not in ("tests", "benchmarks")]
    names = [path.removesuffix(".py").removesuffix("/__init__") for path in paths]
    return [name.replace("/", ".") for name in names]


# Who may import whom


def test_imports_go_to_the_left_only():
    breaches = []
    for path in files():
        source = (ROOT / path).read_text(encoding="utf-8")
        breaches += find_breaches(path, source, SCRIPTS)
    assert breaches == []


def test_every_package_is_known():
    folders = {path.parts[0] for path in (Path(name) for name in files()) if len(path.parts) > 1}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests", "benchmarks"} <= set(PACKAGES)
    assert {"dnnlib", "torch_utils", "data", "training"} <= folders
    for path in files():
        folder = (ROOT / path).parent
        is_package = folder in (ROOT, ROOT / "benchmarks") or (folder / "__init__.py").is_file()
        assert is_package, f"{folder} has no __init__.py"


@pytest.mark.parametrize(
    ("path", "source", "reason"),
    [
        ("dnnlib/files.py", "import torch_utils.ops", "torch_utils lies to the right of dnnlib"),
        ("torch_utils/a.py", "from data import pixels", "data lies to the right of torch_utils"),
        ("data/a.py", "from training.ada import AdaConfig", "training lies to the right of data"),
        ("data/example/a.py", "def f():\n    import metrics", "metrics lies to the right of data"),
        ("training/a.py", "from interpreter import x", "training and interpreter are siblings"),
        ("metrics/a.py", "import training as t", "metrics and training are siblings"),
        ("training/a.py", "if 0:\n    import generate", "scripts are imported by tests only"),
        ("train.py", "from generate import main", "scripts are imported by tests only"),
        ("data/a.py", "from tests.helpers import images", "nothing imports tests"),
        ("generate.py", "import benchmarks.ops", "nothing imports benchmarks"),
        ("data/a.py", "import importlib\nimportlib.import_module('training.ada')", "to the right"),
        ("data/a.py", "__import__('training')", "training lies to the right of data"),
        ("data/a.py", "try:\n    import os, training\nexcept ImportError:\n    pass", "the right"),
        ("data/example/a.py", "from ...training import ada", "training lies to the right of data"),
        ("data/example/a.py", "from ... import training", "training lies to the right of data"),
        ("benchmarks/a.py", "from tests import helpers", "nothing imports tests"),
    ],
)
def test_a_planted_breach_is_found(path, source, reason):
    (breach,) = find_breaches(path, source, ["generate"])
    assert breach.startswith(f"{path}:")
    assert reason in breach


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("training/a.py", "import torch, dnnlib.files\nfrom data import pixels"),
        ("training/a/b.py", "from training.ada import x\nfrom . import y\nfrom ..ada import z"),
        ("data/a.py", "import importlib\nimportlib.import_module(name)\nimport training_tools"),
        ("generate.py", "from training import x\nfrom interpreter import y"),
        ("tests/a.py", "import generate\nfrom training import x\nfrom tests.helpers import y"),
        ("benchmarks/a.py", "import generate, benchmarks.timing\nfrom training import x"),
    ],
)
def test_what_is_allowed_is_not_reported(path, source):
    assert find_breaches(path, source, ["generate"]) == []


# Importing has no effect

PROBE = """
import contextlib, importlib, io, json, logging, os, random, signal, sys, threading
import numpy, torch
import torch.distributed

def state():
    return {
        "CUDA is initialised": torch.cuda.is_initialized(),
        "process group": torch.distributed.is_initialized(),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "threads of torch": torch.get_num_threads(),
        "threads": threading.active_count(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "TF32": [torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32],
        "cuDNN": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
        "random numbers of torch": hash(torch.get_rng_state().numpy().tobytes()),
        "random numbers of numpy": hash(numpy.random.get_state()[1].tobytes()),
        "random numbers of Python": hash(random.getstate()),
        "log handlers": len(logging.getLogger().handlers),
        "log level": logging.getLogger().level,
        "sys.path": list(sys.path),
        "folder": os.getcwd(),
        "environment": sorted(os.environ.items()),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "recursion limit": sys.getrecursionlimit(),
    }

PREPARE = json.loads(sys.argv[1])
for name in PREPARE["outside"]:
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
before, changes = state(), []
output = io.StringIO()
for name in PREPARE["modules"]:
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        importlib.import_module(name)
    after = state()
    changes += [f"importing {name} changes {key}" for key in before if after[key] != before[key]]
    if output.getvalue():
        changes.append(f"importing {name} prints {output.getvalue()!r}")
    before, output = after, io.StringIO()
print(json.dumps(changes))
"""
# Libraries that we import; what they do when imported is not ours to answer for.
OUTSIDE = ("PIL.Image", "click", "scipy", "scipy.ndimage", "torchvision", "tqdm", "filelock")


def effects_of_importing(names, folder):
    arguments = json.dumps({"modules": names, "outside": OUTSIDE})
    command = [sys.executable, "-c", PROBE, arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def test_importing_has_no_effect():
    assert effects_of_importing(modules(), ROOT) == []


def test_effects_of_importing_are_found(tmp_path):
    planted = {
        "prints": "print('hello')",
        "draws": "import torch; torch.randn(1)",
        "configures": "import torch; torch.set_num_threads(3); torch.set_default_dtype(torch.half)",
        "logs": "import logging; logging.basicConfig()",
        "paths": "import sys; sys.path.insert(0, 'x')",
        "innocent": "import torch, logging; LOG = logging.getLogger(__name__)",
    }
    for name, source in planted.items():
        (tmp_path / f"{name}.py").write_text(source)
    assert effects_of_importing(list(planted), tmp_path) == [
        "importing prints prints 'hello\\n'",
        "importing draws changes random numbers of torch",
        "importing configures changes default dtype",
        "importing configures changes threads of torch",
        "importing logs changes log handlers",
        "importing paths changes sys.path",
    ]


# Size


def test_files_have_at_most_400_lines():
    lines = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in files()}
    own = {path for path in lines if path.split("/")[0] not in ("tests", "benchmarks")}
    assert {path: count for path, count in lines.items() if path in own and count > 400} == {}
