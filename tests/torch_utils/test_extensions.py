"""Building kernels: the cache, several processes, failures, and the choice of a backend."""

import logging
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.processes import SECONDS, Fork
from torch_utils.ops import backends, building, cpu_kernels, cuda_kernels
from torch_utils.ops.building import BuildError, Recipe, load
from torch_utils.ops.cuda_kernels import CudaKernels
from torch_utils.options import OpBackend

SOURCE = 'extern "C" int answer() { return 42; }\n'

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


def make_recipe(folder, text=SOURCE, **changes):
    folder.mkdir(exist_ok=True)
    source = folder / "answer.cpp"
    source.write_text(text)
    return Recipe(
        **{"name": "answer", "sources": (source,), "flags": {"extra_cflags": ("-O0",)}, **changes}
    )


def build(recipe, cache, hangs=False):
    """Say where this process builds, if it does, and then the library's answer."""

    def run_loader(order, environment):
        place = Path(order["build_directory"])
        (place / "lock").touch()  # as torch's loader does, which waits where it finds one
        print(place.name, flush=True)
        if hangs:
            time.sleep(SECONDS)
        command = ["g++", "-shared", "-fPIC", *order["sources"], "-o", place / "answer.so"]
        subprocess.run(command, check=True)

    building._run_loader = run_loader
    print(load(recipe, cache).answer())


# The cache


@needs_compiler
def test_a_library_is_built_once_also_where_the_path_has_no_ninja(tmp_path, monkeypatch):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("g++", "c++", "gcc", "as", "ld", "which"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    assert shutil.which("ninja") is None
    recipe, runs = make_recipe(tmp_path / "src"), []
    run = building._run_loader
    monkeypatch.setattr(building, "_run_loader", lambda *args: (runs.append(args), run(*args)))
    for _ in range(2):
        assert load(recipe, tmp_path / "cache").answer() == 42
    assert len(runs) == 1
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".so", ".lock"}


def test_whatever_it_depends_on_changes_the_name(tmp_path, monkeypatch):
    recipe = make_recipe(tmp_path / "src")
    header = tmp_path / "src" / "answer.h"
    header.write_text("// one\n")
    names = [
        recipe.library_name,
        replace(recipe, flags={"extra_cflags": ("-O1",)}).library_name,
        replace(recipe, flags={"extra_ldflags": ("-O0",)}).library_name,
        replace(recipe, key="another processor").library_name,
        replace(recipe, environment={"TORCH_CUDA_ARCH_LIST": "9.0"}).library_name,
        replace(recipe, headers=(header,)).library_name,
        make_recipe(tmp_path / "src", SOURCE + "// changed\n").library_name,
    ]
    header.write_text("// two\n")
    names.append(replace(recipe, headers=(header,)).library_name)
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    names.append(recipe.library_name)
    assert len(set(names)) == len(names)
    assert recipe.library_name == replace(recipe).library_name


@needs_compiler
def test_processes_that_start_together_build_once(tmp_path):
    recipe = make_recipe(tmp_path / "src")
    started = [Fork(build, recipe, tmp_path / "cache") for _ in range(3)]
    words = " ".join(fork.end()[1] for fork in started).split()
    assert len(words) == 4
    assert words.count("42") == 3


@needs_compiler
def test_a_killed_build_does_no_harm(tmp_path):
    recipe, cache = make_recipe(tmp_path / "src"), tmp_path / "cache"
    fork = Fork(build, recipe, cache, True)
    first = fork.written.readline().strip()
    assert fork.end(signal.SIGKILL) == (-signal.SIGKILL, "")
    assert (cache / first / "lock").is_file()
    code, written = Fork(build, recipe, cache).end()
    assert code == 0, written
    second, answer = written.split()
    assert second != first
    assert answer == "42"
    assert {path.suffix for path in cache.iterdir()} == {".so", ".lock"}


# Failures


@needs_compiler
def test_a_compiler_error_is_told_in_one_line(tmp_path):
    recipe = make_recipe(tmp_path / "src", "#include <no_such_header.h>\n")
    with pytest.raises(BuildError, match=r"^[^\n]*answer[^\n]*no_such_header.h[^\n]*$"):
        load(recipe, tmp_path / "cache")
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match=r"file/cache .*set TORCH_EXTENSIONS_DIR"):
        load(make_recipe(tmp_path / "src"), tmp_path / "file" / "cache")


def test_a_build_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "TIMEOUT_SEC", 0.01)
    with pytest.raises(BuildError, match="more than"):
        load(make_recipe(tmp_path / "src"), tmp_path / "cache")


def test_a_library_that_does_not_load_is_a_failed_build(tmp_path):
    recipe = make_recipe(tmp_path / "src")
    (tmp_path / f"{recipe.library_name}.so").write_bytes(b"\x7fELF")
    with pytest.raises(BuildError, match=r"\.so cannot be loaded"):
        load(recipe, tmp_path)


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert building.cache_root() == tmp_path / "biface"
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert building.cache_root() == tmp_path / "other" / "torch_extensions" / "biface"


# The choice of a backend


@pytest.fixture
def process(monkeypatch):
    """A process that has not chosen yet and cannot build."""
    fresh = backends._Process()

    def fail():
        fresh.tries += 1
        raise BuildError("there is no compiler")

    fresh.tries = 0
    fresh.cpu.make = fresh.cuda.make = fail
    monkeypatch.setattr(backends, "_PROCESS", fresh)
    return fresh


def test_a_failure_is_said_once_and_plain_pytorch_goes_on(process, caplog):
    from torch_utils.ops.bias_act import bias_act  # noqa: PLC0415

    with caplog.at_level(logging.INFO):
        for _ in range(3):
            result = bias_act(torch.tensor([[-1.0, 2.0]]), act="lrelu", gain=1)
            torch.testing.assert_close(result, torch.tensor([[-0.2, 2.0]]))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "there is no compiler" in record.getMessage()
    assert process.tries == 1


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_kernels_that_are_asked_for_must_be_there(process, backend):
    with pytest.raises(ValueError, match=f"--ops={backend}: there is no compiler"):
        backends.use(backend)
    assert process.backend is OpBackend.AUTO


def test_plain_asks_for_no_kernels(process):
    backends.use("plain")
    assert backends.kernels_for(torch.zeros(1)) is None
    assert process.tries == 0


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match="'fast'"):
        backends.use("fast")


def test_a_backend_for_the_time_of_a_block(process):
    def fail():
        with backends.using("plain"):
            assert process.backend is OpBackend.PLAIN
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert process.backend is OpBackend.AUTO


def test_other_dtypes_and_devices_stay_plain():
    assert backends.kernels_for(torch.zeros(1, dtype=torch.float64)) is None
    assert backends.kernels_for(torch.zeros(1, device="meta")) is None


@needs_compiler
def test_kernels_of_the_cpu_are_announced_once(monkeypatch, caplog):
    monkeypatch.setattr(backends, "_PROCESS", backends._Process())
    with caplog.at_level(logging.INFO):
        first = backends.kernels_for(torch.zeros(1))
        assert backends.kernels_for(torch.zeros(1)) is first
    assert isinstance(first, cpu_kernels.CpuKernels)
    assert len(caplog.records) == 1


# The CUDA toolkit


def make_toolkit(folder, tells=True):
    for name in ("bin", "lib64", "include"):
        (folder / name).mkdir(parents=True)
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text(f'#!/bin/sh\necho "#\\$ TOP={folder}/bin/.." >&2\n' if tells else "#!/bin/sh\n")
    nvcc.chmod(0o755)
    return folder


@pytest.fixture
def no_cuda(monkeypatch, tmp_path):
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + "/bin")


def test_cuda_home_goes_first(no_cuda, monkeypatch, tmp_path):
    make_toolkit(tmp_path / "other", tells=False)
    toolkit = make_toolkit(tmp_path / "cuda")
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    monkeypatch.setenv("PATH", str(tmp_path / "other" / "bin"))
    assert cuda_kernels.find_toolkit() == toolkit


@pytest.mark.skipif(os.name != "posix", reason="shell scripts and links")
def test_wrapper_scripts_and_links_lead_to_the_toolkit(no_cuda, tmp_path):
    toolkit, wrapper = make_toolkit(tmp_path / "cuda"), tmp_path / "bin" / "nvcc"
    wrapper.write_text(f'#!/bin/sh\nexec {toolkit}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    assert cuda_kernels.find_toolkit() == toolkit
    wrapper.unlink()
    silent = make_toolkit(tmp_path / "silent", tells=False)
    wrapper.symlink_to(silent / "bin" / "nvcc")
    assert cuda_kernels.find_toolkit() == silent


def test_no_toolkit_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cuda_kernels.shutil, "which", lambda *_, **__: None)
    with pytest.raises(BuildError, match="CUDA_HOME"):
        cuda_kernels.find_toolkit()


def test_headers_of_wheels_are_for_what_a_toolkit_lacks(tmp_path):
    toolkit = make_toolkit(tmp_path / "cuda")
    wheels = cuda_kernels.header_folders(toolkit)
    assert all((Path(folder) / "cuda_fp16.h").is_file() for folder in wheels)
    (toolkit / "include" / "cuda_fp16.h").write_text("")
    assert cuda_kernels.header_folders(toolkit) == (str(toolkit / "include"),)


def test_without_a_gpu_the_reason_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BuildError, match="CUDA device"):
        CudaKernels.built()
