"""Building kernels: the cache, several processes, failures, and the choice of a form."""

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from torch_utils.ops import building, cpu_kernels, cuda_toolkit, forms
from torch_utils.ops.building import BuildError, Recipe, build
from torch_utils.ops.cuda_kernels import CudaKernels
from torch_utils.ops.forms import OpsForm

ROOT = Path(__file__).resolve().parents[2]
SOURCE = 'extern "C" int answer() { return 42; }\n'

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


def make_recipe(folder, text=SOURCE, **changes):
    folder.mkdir(exist_ok=True)
    source = folder / "answer.cpp"
    source.write_text(text)
    return Recipe(**{"name": "answer", "sources": (source,), "cxx_flags": ("-O0",), **changes})


def counting(monkeypatch):
    calls, run = [], building.subprocess.run

    def count(*args, **kwargs):
        calls.append(args)
        return run(*args, **kwargs)

    monkeypatch.setattr(building.subprocess, "run", count)
    return calls


# The cache


@needs_compiler
def test_a_library_is_built_once(tmp_path, monkeypatch):
    calls = counting(monkeypatch)
    recipe = make_recipe(tmp_path / "src")
    first = build(recipe, tmp_path / "cache")
    assert build(recipe, tmp_path / "cache") == first
    assert len(calls) == 1
    leftovers = {path.suffix for path in first.parent.iterdir()}
    assert leftovers == {".so", ".lock"}


def test_whatever_it_depends_on_changes_the_name(tmp_path):
    recipe = make_recipe(tmp_path / "src")
    digests = [
        recipe.digest(),
        replace(recipe, cxx_flags=("-O1",)).digest(),
        replace(recipe, cuda_flags=("-O1",)).digest(),
        replace(recipe, link_flags=("-lm",)).digest(),
        replace(recipe, key=("another processor",)).digest(),
        replace(recipe, environment=(("TORCH_CUDA_ARCH_LIST", "9.0"),)).digest(),
        make_recipe(tmp_path / "src", SOURCE + "// changed\n").digest(),
    ]
    assert len(set(digests)) == len(digests)
    assert recipe.digest() == replace(recipe).digest()


def test_a_header_counts_as_source(tmp_path):
    recipe = make_recipe(tmp_path / "src")
    header = tmp_path / "src" / "answer.h"
    header.write_text("// one\n")
    recipe = replace(recipe, headers=(header,))
    before = recipe.digest()
    header.write_text("// two\n")
    assert recipe.digest() != before


def test_another_torch_is_another_library(tmp_path, monkeypatch):
    recipe = make_recipe(tmp_path / "src")
    before = recipe.digest()
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert recipe.digest() != before


@needs_compiler
def test_processes_that_start_together_build_once(tmp_path):
    make_recipe(tmp_path / "src")
    code = (
        "import sys; from pathlib import Path; from torch_utils.ops.building import *;"
        "import torch_utils.ops.building as b; run = b._compile\n"
        "def noted(*a):\n    print('built'); run(*a)\n"
        "b._compile = noted; folder = Path(sys.argv[1])\n"
        "r = Recipe(name='answer', sources=(folder / 'src' / 'answer.cpp',))\n"
        "import ctypes; print(ctypes.CDLL(str(build(r, folder / 'cache'))).answer())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    words = " ".join(process.communicate(timeout=300)[0] for process in processes).split()
    assert sorted(words) == ["42", "42", "42", "built"]


@needs_compiler
def test_remains_of_a_killed_build_do_no_harm(tmp_path):
    recipe = make_recipe(tmp_path / "src")
    folder = tmp_path / "cache" / f"answer-{recipe.digest()}.build"
    folder.mkdir(parents=True)
    for name in ("lock", "build.ninja", "answer.so"):  # torch's loader would wait for the lock
        (folder / name).write_text("half")
    assert build(recipe, tmp_path / "cache").stat().st_size > 1000


# Failures


@needs_compiler
def test_a_compiler_error_is_told_in_one_line(tmp_path):
    recipe = make_recipe(tmp_path / "src", "#include <no_such_header.h>\n")
    with pytest.raises(BuildError, match="compiling answer failed: .*no_such_header.h") as caught:
        build(recipe, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert "ninja" in caught.value.log


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match=r"file/cache cannot hold .*set TORCH_EXTENSIONS_DIR"):
        build(make_recipe(tmp_path / "src"), tmp_path / "file" / "cache")


def test_a_build_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "TIMEOUT_SEC", 0.01)
    with pytest.raises(BuildError, match="compiling answer took more than"):
        build(make_recipe(tmp_path / "src"), tmp_path / "cache")


def test_a_library_that_does_not_load_is_a_failed_build(process, tmp_path, caplog):
    library = tmp_path / "half.so"
    library.write_bytes(b"\x7fELF")
    with pytest.raises(BuildError, match=r"half.so cannot be loaded \("):
        CudaKernels({"bias_act": library, "upfirdn2d": library})
    process.cpu.make = lambda: cpu_kernels.CpuKernels(library)
    assert forms.cpu_kernels() is None
    assert "plain PyTorch, which is slower, because" in caplog.text


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert building.cache_root() == tmp_path / "biface"
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert building.cache_root() == tmp_path / "other" / "torch_extensions" / "biface"


# The choice of a form


@pytest.fixture
def process(monkeypatch):
    """A process that has not chosen yet and cannot build."""
    fresh = forms._Process()

    def fail():
        fresh.tries += 1
        raise BuildError("there is no compiler")

    fresh.tries = 0
    fresh.cpu.make = fresh.cuda.make = fail
    monkeypatch.setattr(forms, "_PROCESS", fresh)
    return fresh


def test_a_failure_is_said_once_and_plain_pytorch_goes_on(process, caplog):
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert forms.cpu_kernels() is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "plain PyTorch, which is slower, because there is no compiler" in record.getMessage()
    assert process.tries == 1


def test_results_are_there_without_kernels(process):
    from torch_utils.ops.bias_act import bias_act  # noqa: PLC0415

    result = bias_act(torch.tensor([[-1.0, 2.0]]), act="lrelu", gain=1)
    torch.testing.assert_close(result, torch.tensor([[-0.2, 2.0]]))


@pytest.mark.parametrize("form", ["cpu", "cuda"])
def test_kernels_that_are_asked_for_must_be_there(process, form):
    with pytest.raises(ValueError, match=f"--ops={form}: there is no compiler"):
        forms.use(form)
    assert process.form is OpsForm.AUTO


def test_plain_asks_for_no_kernels(process):
    forms.use("plain")
    assert forms.cpu_kernels() is forms.cuda_kernels() is None
    assert process.tries == 0


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="'fast' is not a valid OpsForm"):
        forms.use("fast")


def test_a_form_for_the_time_of_a_block(process):
    def fail():
        with forms.using("plain"):
            assert process.form is OpsForm.PLAIN
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert process.form is OpsForm.AUTO


def test_other_dtypes_and_devices_stay_plain():
    assert forms.kernels_for(torch.zeros(1, dtype=torch.float64)) is None
    assert forms.kernels_for(torch.zeros(1, device="meta")) is None


@needs_compiler
def test_kernels_of_the_cpu_are_announced_once(monkeypatch, caplog):
    monkeypatch.setattr(forms, "_PROCESS", forms._Process())
    with caplog.at_level(logging.INFO):
        first = forms.kernels_for(torch.zeros(1))
        assert forms.kernels_for(torch.zeros(1)) is first
    assert isinstance(first, cpu_kernels.CpuKernels)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith("operations on cpu: our kernels, ready in")


# The CUDA toolkit


def make_toolkit(folder):
    for name in ("bin", "lib64", "include"):
        (folder / name).mkdir(parents=True)
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text(f'#!/bin/sh\necho "#\\$ TOP={folder}/bin/.." >&2\n')
    nvcc.chmod(0o755)
    return folder


@pytest.fixture
def no_cuda(monkeypatch, tmp_path):
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + "/bin")
    (tmp_path / "bin").mkdir()


def test_cuda_home_goes_first(no_cuda, monkeypatch, tmp_path):
    toolkit = make_toolkit(tmp_path / "cuda")
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    assert cuda_toolkit.find_toolkit() == toolkit


@pytest.mark.skipif(os.name != "posix", reason="shell scripts")
def test_a_wrapper_script_leads_to_the_toolkit(no_cuda, tmp_path):
    toolkit = make_toolkit(tmp_path / "cuda")
    wrapper = tmp_path / "bin" / "nvcc"
    wrapper.write_text(f'#!/bin/sh\nexec {toolkit}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    assert cuda_toolkit.find_toolkit() == toolkit


def test_a_link_leads_to_the_toolkit(no_cuda, tmp_path):
    toolkit = make_toolkit(tmp_path / "cuda")
    (toolkit / "bin" / "nvcc").write_text("#!/bin/sh\n")  # it tells nothing
    (tmp_path / "bin" / "nvcc").symlink_to(toolkit / "bin" / "nvcc")
    assert cuda_toolkit.find_toolkit() == toolkit


def test_no_toolkit_says_what_to_install(no_cuda, monkeypatch):
    monkeypatch.setattr(cuda_toolkit, "_has_nvcc", lambda folder: False)
    with pytest.raises(BuildError, match="no CUDA toolkit was found: install one with nvcc"):
        cuda_toolkit.find_toolkit()


def test_headers_of_wheels_are_for_what_a_toolkit_lacks(tmp_path):
    toolkit = make_toolkit(tmp_path / "cuda")
    wheels = cuda_toolkit.header_folders(toolkit)
    assert all((Path(folder) / "cuda_runtime.h").is_file() for folder in wheels)
    (toolkit / "include" / "cuda_fp16.h").write_text("")
    assert cuda_toolkit.header_folders(toolkit) == ()


def test_without_a_gpu_the_reason_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BuildError, match="^PyTorch finds no CUDA device$"):
        CudaKernels.built()
