"""The op backends: plain PyTorch, or kernels of ours that are built on first use.

Like torch.backends, the choice belongs to the process and not to a caller: derivatives run in
threads that autograd owns. It is made once, announced once, and changed only by `use` and `using`.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from torch_utils.ops.building import BuildError
from torch_utils.ops.cpu_kernels import CpuKernels
from torch_utils.ops.cuda_kernels import DTYPES as CUDA_DTYPES
from torch_utils.ops.cuda_kernels import CudaKernels
from torch_utils.options import OpBackend

Kernels = CpuKernels | CudaKernels

_log = logging.getLogger(__name__)


class _Lazy:
    """Kernels that are built when first asked for; a failure is remembered and said once."""

    def __init__(self, device: str, make: Callable[[], Kernels]) -> None:
        self.device, self.make = device, make
        self.lock = threading.Lock()
        self.is_tried = False
        self.kernels: Kernels | None = None
        self.error: BuildError | None = None

    def get(self) -> Kernels | None:
        if not self.is_tried:
            with self.lock:
                if not self.is_tried:
                    self._build()
                    self.is_tried = True
        return self.kernels

    def _build(self) -> None:
        began = time.monotonic()
        try:
            self.kernels = self.make()
        except BuildError as error:
            self.error = error
            _log.warning(
                "operations on %s: plain PyTorch, which is slower, because %s; --ops=plain accepts"
                " this, --ops=%s stops instead",
                self.device,
                error,
                self.device,
            )
        else:
            seconds = time.monotonic() - began
            _log.info("operations on %s: our kernels, ready in %.1f s", self.device, seconds)


class _Process:
    """The choice of this process and what has been built for it."""

    def __init__(self) -> None:
        self.backend = OpBackend.AUTO
        self.has_weight_gradients = True
        self.cpu = _Lazy("cpu", CpuKernels.built)
        self.cuda = _Lazy("cuda", CudaKernels.built)


_PROCESS = _Process()


def use(backend: OpBackend | str) -> None:
    """Choose the backend for the rest of the process.

    Raises: ValueError for an unknown one, or with "cpu" and "cuda" where kernels for that device
        cannot be built.
    """
    backend = OpBackend(backend)
    if backend in (OpBackend.CPU, OpBackend.CUDA):
        lazy = _PROCESS.cpu if backend is OpBackend.CPU else _PROCESS.cuda
        if lazy.get() is None:
            raise ValueError(f"--ops={backend}: {lazy.error}")
    _PROCESS.backend = backend


@contextlib.contextmanager
def using(backend: OpBackend | str) -> Iterator[None]:
    """Choose a backend for the time of a block, as tests and measurements do."""
    before = _PROCESS.backend
    use(backend)
    try:
        yield
    finally:
        _PROCESS.backend = before


@contextlib.contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Take derivatives by images or styles alone, to be differentiated again, while a block runs.

    A gradient penalty needs no derivative by kernels and biases in its first backward pass. The
    forward pass belongs into the block, too: there, convolutions on CUDA become those whose second
    derivatives are again convolutions with small kernels.
    """
    before, _PROCESS.has_weight_gradients = _PROCESS.has_weight_gradients, False
    try:
        yield
    finally:
        _PROCESS.has_weight_gradients = before


def has_weight_gradients() -> bool:
    """Tell whether derivatives by kernels and biases are wanted."""
    return _PROCESS.has_weight_gradients


def kernels_for(x: Tensor) -> Kernels | None:
    """Return the kernels for a tensor's device and dtype, or None for plain PyTorch."""
    if _PROCESS.backend is OpBackend.PLAIN:
        return None
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return _PROCESS.cpu.get()
    if x.device.type == "cuda" and x.dtype in CUDA_DTYPES:
        return _PROCESS.cuda.get()
    return None
