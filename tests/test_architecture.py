"""The five floors of the code base, and that importing a module has no effect."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = tuple(sorted(path.stem for path in ROOT.glob("*.py")))

# From the bottom up. A package imports only from floors below its own, never from one beside it;
# each script is a package of its own. Benchmarks and tests stand on the roof: nothing imports them.
FLOORS = (
    ("dnnlib", "torch_utils"),
    ("data",),
    ("networks", "biometrics", "metrics", "renderer"),
    ("training", "interpreter", "identities", "recognition", "segmentation", "refinement")
    + ("evaluation", "projection", "annotator"),
    SCRIPTS,
    ("benchmarks",),
    ("tests",),
)
PACKAGES = tuple(package for floor in FLOORS[:4] for package in floor)
FLOOR_OF = {package: number for number, floor in enumerate(FLOORS) for package in floor}
# The two arrows inside a floor: operations on plain Python, comparison scores on their intervals.
BESIDE = {("torch_utils", "dnnlib"), ("biometrics", "metrics")}


def find_files():
    """Return the paths of all source files, relative to the root."""
    folders = [ROOT / name for name in (*PACKAGES, "benchmarks", "tests")]
    paths = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    return sorted(path.relative_to(ROOT) for path in paths)


def imported_packages(source):
    """Return the top-level packages that a file imports, late and constant dynamic ones too.

    Relative imports never leave their package: Python refuses those that would.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if function in ("import_module", "__import__", "lazy"):
                names.add(str(node.args[0].value))
    return {name.split(".")[0] for name in names}


def find_breaches(path, source):
    """Return (file, package) of each import that does not go down."""
    owner = path.parts[0].removesuffix(".py")
    return {
        (path.as_posix(), package)
        for package in imported_packages(source) & set(FLOOR_OF)
        if package != owner
        and FLOOR_OF[package] >= FLOOR_OF[owner]
        and (owner, package) not in BESIDE
    }


# Who may import whom


def test_imports_go_down_only():
    files = [(path, (ROOT / path).read_text(encoding="utf-8")) for path in find_files()]
    assert [breach for file in files for breach in find_breaches(*file)] == []


def test_a_planted_breach_is_found():
    source = "import os, data.pixels\ndef late():\n    from training.ada import AdaConfig"
    late = "from dnnlib.command import lazy\nlazy('training.jobs:prepare')"
    assert find_breaches(Path("networks/a.py"), late) == {("networks/a.py", "training")}
    assert find_breaches(Path("metrics/a.py"), source) == {("metrics/a.py", "training")}
    assert find_breaches(Path("generate.py"), "import evaluate") == {("generate.py", "evaluate")}


def test_every_package_is_known():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert sorted(folders - set(PACKAGES) - {"tests", "benchmarks"}) == []
    inner = {path.parent for path in find_files()} - {Path(), Path("benchmarks")}
    assert [folder for folder in inner if not (ROOT / folder / "__init__.py").is_file()] == []


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


def test_importing_has_no_effect_but_planted_ones(tmp_path):
    (tmp_path / "loud.py").write_text("import torch; print('hello'); torch.randn(1)")
    paths = [path for path in find_files() if path.parts[0] not in ("tests", "benchmarks")]
    names = [path.as_posix().removesuffix(".py").removesuffix("/__init__") for path in paths]
    modules = [*(name.replace("/", ".") for name in names), "loud"]
    arguments = json.dumps({"modules": modules, "outside": OUTSIDE})
    command = [sys.executable, "-c", PROBE, arguments]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == [
        "importing loud changes random numbers of torch",
        "importing loud prints 'hello\\n'",
    ]
