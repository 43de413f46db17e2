"""Compile the C++ and CUDA kernels once, and keep the result until something changes.

A library is known by a hash of its sources, the compilers' versions and flags, torch and the
processors it is for. It is built in a process of its own under a file lock, so that several
processes may start together, and takes its final name only when it is whole.
"""

import ctypes
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock
import torch

CSRC = Path(__file__).parent / "csrc"
TIMEOUT_SEC = 900.0

_LAST_LINES = 12


class BuildError(RuntimeError):
    """A library could not be built; the message says why in one line, `log` holds all output."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a library is made from.

    Attributes:
        name: of the library.
        sources: .cpp and .cu files.
        headers: files that the sources include; they count for the hash only.
        cxx_flags: for the C++ compiler.
        cuda_flags: for nvcc.
        link_flags: for the linker.
        include_paths: folders of headers beside the compiler's own.
        environment: variables of the build, such as CUDA_HOME.
        key: whatever else the result depends on, such as the processor.
    """

    name: str
    sources: tuple[Path, ...]
    headers: tuple[Path, ...] = ()
    cxx_flags: tuple[str, ...] = ()
    cuda_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    include_paths: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    key: tuple[str, ...] = ()

    @property
    def has_cuda(self) -> bool:
        """Whether nvcc is needed."""
        return any(source.suffix == ".cu" for source in self.sources)

    def digest(self) -> str:
        """Return 16 hex digits that change with anything that the library depends on."""
        digest = hashlib.sha256()
        for path in (*self.sources, *self.headers):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        flags = {key: str(value) for key, value in asdict(self).items()}
        flags = {key: flags[key] for key in ("cxx_flags", "cuda_flags", "link_flags", "key")}
        about = [flags, self.environment, str(torch.__version__), platform.machine(), sys.platform]
        digest.update(json.dumps(about, sort_keys=True).encode())
        return digest.hexdigest()[:16]


def cache_root() -> Path:
    """Return the folder of built libraries: TORCH_EXTENSIONS_DIR, or one in the user's cache."""
    chosen = os.environ.get("TORCH_EXTENSIONS_DIR")
    if chosen:
        return Path(chosen) / "biface"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "torch_extensions" / "biface"


def build(recipe: Recipe, root: Path | None = None) -> Path:
    """Return the library of a recipe, compiled now unless it is there from before.

    Args:
        recipe: what to build.
        root: folder that keeps libraries; None is `cache_root()`.
    Raises: BuildError.
    """
    root = cache_root() if root is None else root
    name = f"{recipe.name}-{recipe.digest()}"
    library = root / f"{name}.so"
    if library.is_file():
        return library
    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f"{name}.lock", timeout=TIMEOUT_SEC):
            if not library.is_file():
                _compile(recipe, root / f"{name}.build", library)
    except filelock.Timeout as error:
        raise BuildError(f"another process has been building {name} for too long") from error
    except OSError as error:
        raise BuildError(
            f"{root} cannot hold the result ({error}): set TORCH_EXTENSIONS_DIR"
        ) from error
    return library


def load(library: Path) -> ctypes.CDLL:
    """Return a library's functions.

    Raises: BuildError where the system does not load it, as from a disk that forbids execution, or
        where the CUDA runtime that it was linked with is not here.
    """
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise BuildError(f"{library} cannot be loaded ({error})") from error


def _compile(recipe: Recipe, folder: Path, library: Path) -> None:
    """Build in `folder`, which may hold the remains of a build that was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    order = {
        "name": recipe.name,
        "sources": [str(path) for path in recipe.sources],
        "extra_cflags": list(recipe.cxx_flags),
        "extra_cuda_cflags": list(recipe.cuda_flags),
        "extra_ldflags": list(recipe.link_flags),
        "extra_include_paths": list(recipe.include_paths),
        "build_directory": str(folder),
        "with_cuda": recipe.has_cuda,
    }
    command = [sys.executable, "-m", "torch_utils.ops.compile_extension", json.dumps(order)]
    try:
        done = subprocess.run(
            command,
            cwd=CSRC.parents[2],
            env={**os.environ, **dict(recipe.environment)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SEC,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"compiling {recipe.name} took more than {TIMEOUT_SEC:.0f} s") from error
    built = folder / f"{recipe.name}.so"
    if done.returncode or not built.is_file():
        log = done.stdout + done.stderr
        raise BuildError(f"compiling {recipe.name} failed: {_reason(log)}", log)
    built.replace(library)
    shutil.rmtree(folder, ignore_errors=True)


def _reason(log: str) -> str:
    """Return the line of a compiler's output that says most."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for mark in ("fatal error", " error:", "error:", "cannot find", "Error"):
        for line in lines:
            if mark in line:
                return line[:300]
    return " / ".join(lines[-_LAST_LINES:])[-300:] or "no output"
