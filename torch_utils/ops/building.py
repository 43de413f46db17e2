"""Compile kernels once with torch's extension loader, and keep them until something changes.

A library is known by a hash of its sources, flags, torch and the processors it is for. Each build
has a folder and a process of its own, since the loader waits without end for the lock that a killed
build leaves, and reads CUDA_HOME when it is imported. What is whole takes its final name, under a
file lock, so that several processes may start together.
"""

import ctypes
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import filelock
import torch

CSRC = Path(__file__).parent / "csrc"
TIMEOUT_SEC = 900.0
_LOADER = (
    "import json, sys; from torch.utils import cpp_extension;"
    " cpp_extension.load(**json.loads(sys.argv[1]), is_python_module=False, verbose=True)"
)


class BuildError(RuntimeError):
    """A library could not be built; the message says why in one line."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a library is made from.

    Attributes:
        name: of the library.
        sources: .cpp and .cu files.
        headers: files that the sources include; they count for the hash only.
        flags: by the option of torch.utils.cpp_extension.load that takes them.
        environment: variables of the build, such as CUDA_HOME.
        key: whatever else the result depends on, such as the processor.
    """

    name: str
    sources: tuple[Path, ...]
    headers: tuple[Path, ...] = ()
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    key: str = ""

    @property
    def library_name(self) -> str:
        """Name of the result, which changes with anything that it depends on."""
        digest = hashlib.sha256()
        for path in (*self.sources, *self.headers):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        machine = (str(torch.__version__), platform.machine(), sys.platform)
        about = [dict(self.flags), dict(self.environment), self.key, machine]
        digest.update(json.dumps(about, sort_keys=True).encode())
        return f"{self.name}-{digest.hexdigest()[:16]}"


def cache_root() -> Path:
    """Return the folder of built libraries: TORCH_EXTENSIONS_DIR, or one in the user's cache."""
    chosen = os.environ.get("TORCH_EXTENSIONS_DIR")
    if chosen:
        return Path(chosen) / "biface"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "torch_extensions" / "biface"


def load(recipe: Recipe, root: Path | None = None) -> ctypes.CDLL:
    """Return a library's functions, compiled now unless they are there from before.

    `root` is the folder that keeps libraries, by default `cache_root()`.

    Raises: BuildError, also where the system does not load the library, as from a disk that forbids
        execution, or where the CUDA runtime that it was linked with is not here.
    """
    root = cache_root() if root is None else root
    name = recipe.library_name
    library = root / f"{name}.so"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not library.is_file():
            with filelock.FileLock(root / f"{name}.lock", timeout=TIMEOUT_SEC):
                if not library.is_file():
                    _compile(recipe, library)
    except filelock.Timeout as error:
        raise BuildError(f"another process has been building {name} for too long") from error
    except OSError as error:
        raise BuildError(
            f"{root} cannot hold the result ({error}): set TORCH_EXTENSIONS_DIR"
        ) from error
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise BuildError(f"{library} cannot be loaded ({error})") from error


def _compile(recipe: Recipe, library: Path) -> None:
    for remains in library.parent.glob(f"{library.stem}.*.part"):  # of builds that were killed
        shutil.rmtree(remains, ignore_errors=True)
    folder = tempfile.mkdtemp(dir=library.parent, prefix=f"{library.stem}.", suffix=".part")
    order = {
        "name": recipe.name,
        "sources": [str(path) for path in recipe.sources],
        "build_directory": folder,
        **recipe.flags,
    }
    try:
        _run_loader(order, {**recipe.environment, "PATH": _path_with_ninja()})
        (Path(folder) / f"{recipe.name}.so").replace(library)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_loader(order: Mapping[str, object], environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-c", _LOADER, json.dumps(order)]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SEC,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"compiling took more than {TIMEOUT_SEC:.0f} s") from error
    if done.returncode:
        raise BuildError(f"compiling {order['name']} failed: {_reason(done.stdout + done.stderr)}")


def _path_with_ninja() -> str:
    """Return a PATH on which pip's ninja goes first, also where no environment is activated."""
    scripts = (sysconfig.get_path("scripts"), str(Path(sys.executable).parent))
    return os.pathsep.join([*scripts, os.environ.get("PATH", os.defpath)])


def _reason(log: str) -> str:
    """Return the line of a compiler's output that says most."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for mark in ("fatal error", "error:", "cannot find", "Error"):
        for line in lines:
            if mark in line:
                return line[:300]
    return lines[-1][:300] if lines else "no output"
