"""The CUDA kernels' own sources, compiled for the host, with the code that calls them.

All but the compilation for a GPU is what runs there: types of 16 bits, vectors, tiles in shared
memory, strides over a grid, arguments, memory layouts and derivatives.
"""

import contextlib
import re
import types
from pathlib import Path

import torch

from torch_utils.ops import backends, cuda_kernels
from torch_utils.ops.building import CSRC, Recipe, load
from torch_utils.ops.cuda_kernels import DTYPES, CudaKernels

SHIM = Path(__file__).parents[1] / "torch_utils" / "csrc" / "cuda_on_host.h"
# Few threads and blocks, so that each of them has several parts of the work to do.
SIZES = {"kThreads = 256": "kThreads = 8", r"kMaxBlocks = 1 << \d+": "kMaxBlocks = 5"}
LAUNCH = re.compile(r"(\w+<[\w, ]+>)\s*<<<(\w+), (\w+), 0, stream>>>\(([^;]*)\);")


def build_on_host(folder):
    """Return the kernels for tensors on the CPU. Raises: BuildError without a CUDA toolkit."""
    headers = cuda_kernels.header_folders(cuda_kernels.find_toolkit())
    libraries = {}
    for name in cuda_kernels.NAMES:
        source = folder / f"{name}.cpp"
        source.write_text(_on_host((CSRC / "cuda" / f"{name}.cu").read_text(encoding="utf-8")))
        recipe = Recipe(
            name=f"biface_host_{name}",
            sources=(source,),
            headers=(*sorted((CSRC / "cuda").glob("*.h")), SHIM),
            flags={
                "extra_cflags": ("-std=c++20", "-O0", "-w"),
                "extra_include_paths": (str(CSRC / "cuda"), str(SHIM.parent), *headers),
            },
        )
        libraries[name] = load(recipe)
    return CudaKernels(libraries)


def _on_host(source):
    launched = LAUNCH.sub(r"(void)stream; on_host::launch(\2, \3, [&] { \1(\4); });", source)
    assert "<<<" not in launched, "every launch is rewritten"
    for wanted, size in SIZES.items():
        launched, count = re.subn(wanted, size, launched)
        assert count == 1, f"{wanted} stands in each source"
    return f'#include "{SHIM.name}"\n{launched}'


@contextlib.contextmanager
def using(form, kernels, monkeypatch):
    """Compute on the CPU with the kernels, as "cuda" does on a GPU, or with "plain" PyTorch."""
    stream = types.SimpleNamespace(cuda_stream=0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
        patch.setattr(torch.cuda, "current_stream", lambda _: stream)
        is_fast = form == "cuda"
        patch.setattr(
            backends, "kernels_for", lambda x: kernels if is_fast and x.dtype in DTYPES else None
        )
        yield
