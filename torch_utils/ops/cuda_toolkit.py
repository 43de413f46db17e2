"""Where nvcc, its toolkit and the CUDA headers of pip's wheels are, and what to compile for."""

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import torch

from torch_utils.ops.building import BuildError

# Every generation from Turing to Blackwell; the last also as PTX for what comes after.
ALL_ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0+PTX")
ONE_ARCHITECTURE = ("9.0+PTX",)


def find_toolkit() -> Path:
    """Return the folder of the toolkit, the one that holds bin/nvcc and lib64.

    CUDA_HOME goes first, then the toolkit of the nvcc on the path, which may be a wrapper script
    somewhere else: nvcc itself tells.

    Raises: BuildError where there is none.
    """
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        folder = os.environ.get(variable)
        if folder and _has_nvcc(Path(folder)):
            return Path(folder)
    nvcc = shutil.which("nvcc")
    candidates = [] if nvcc is None else [_told_by(nvcc), Path(nvcc).resolve().parents[1]]
    candidates += [Path("/usr/local/cuda"), *_wheel_folders()]
    for candidate in candidates:
        if candidate is not None and _has_nvcc(candidate) and _has_libraries(candidate):
            return candidate
    raise BuildError(
        "no CUDA toolkit was found: install one with nvcc, of the CUDA version of PyTorch"
        f" ({torch.version.cuda}), and set CUDA_HOME to its folder"
    )


def header_folders(toolkit: Path) -> tuple[str, ...]:
    """Return folders of CUDA headers from pip's wheels, for what the toolkit itself lacks."""
    if (toolkit / "include" / "cuda_fp16.h").is_file():
        return ()
    return tuple(str(folder / "include") for folder in _wheel_folders())


def architectures() -> tuple[str, ...]:
    """Return the compute capabilities of the GPUs at hand, such as ("9.0",)."""
    devices = range(torch.cuda.device_count())
    capabilities = {torch.cuda.get_device_capability(device) for device in devices}
    return tuple(f"{major}.{minor}" for major, minor in sorted(capabilities))


def compiler_version(toolkit: Path) -> str:
    """Return nvcc's own words about its version."""
    return _run([str(toolkit / "bin" / "nvcc"), "--version"])


def _told_by(nvcc: str) -> Path | None:
    """Return the toolkit that nvcc would use, from the commands that it would run."""
    words = _run([nvcc, "--dryrun", "-x", "cu", os.devnull, "-c", "-o", os.devnull])
    found = re.search(r"^#\$ TOP=(.+)$", words, re.MULTILINE)
    return Path(found[1].strip()).resolve() if found else None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _has_nvcc(folder: Path) -> bool:
    return (folder / "bin" / "nvcc").is_file()


def _has_libraries(folder: Path) -> bool:
    return (folder / "lib64").is_dir() or (folder / "lib").is_dir()


def _wheel_folders() -> list[Path]:
    """Return the folders of pip's nvidia wheels that hold the headers of the runtime."""
    site = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    return sorted(path.parents[1] for path in site.glob("*/include/cuda_runtime.h"))
