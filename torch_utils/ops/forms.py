"""Which form of the operations computes: plain PyTorch, or kernels of ours built on first use.

Like torch.backends, the choice belongs to the process and not to a caller: derivatives run in
threads that autograd owns. It is made once, announced once, and changed only by `use` and `using`.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Generic, TypeVar

import torch
from torch import Tensor

from torch_utils.ops.building import BuildError
from torch_utils.ops.cpu_kernels import CpuKernels
from torch_utils.ops.cuda_kernels import DTYPES as CUDA_DTYPES
from torch_utils.ops.cuda_kernels import CudaKernels

Kernels = CpuKernels | CudaKernels
Some = TypeVar("Some", CpuKernels, CudaKernels)

_log = logging.getLogger(__name__)


class OpsForm(StrEnum):
    """What the user may ask for.

    auto: kernels where they can be built, otherwise plain PyTorch, which is said once.
    plain: plain PyTorch.
    cpu, cuda: as auto, but kernels for that device must be there.
    """

    AUTO = "auto"
    PLAIN = "plain"
    CPU = "cpu"
    CUDA = "cuda"


class _Lazy(Generic[Some]):
    """Kernels that are built when first asked for; a failure is remembered and said once."""

    def __init__(self, device: str, make: Callable[[], Some]) -> None:
        self.device, self.make = device, make
        self.lock = threading.Lock()
        self.is_tried = False
        self.kernels: Some | None = None
        self.error: BuildError | None = None

    def get(self) -> Some | None:
        if not self.is_tried:
            with self.lock:
                if not self.is_tried:
                    self._try()
        return self.kernels

    def _try(self) -> None:
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
        self.is_tried = True


class _Process:
    """The choice of this process and what has been built for it."""

    def __init__(self) -> None:
        self.form = OpsForm.AUTO
        self.cpu = _Lazy("cpu", CpuKernels.built)
        self.cuda = _Lazy("cuda", CudaKernels.built)


_PROCESS = _Process()


def use(form: OpsForm | str) -> None:
    """Choose the form for the rest of the process.

    Raises: ValueError for an unknown form, or with "cpu" and "cuda" where kernels for that device
        cannot be built.
    """
    form = OpsForm(form)
    if form in (OpsForm.CPU, OpsForm.CUDA):
        lazy = _PROCESS.cpu if form is OpsForm.CPU else _PROCESS.cuda
        if lazy.get() is None:
            raise ValueError(f"--ops={form}: {lazy.error}")
    _PROCESS.form = form


@contextlib.contextmanager
def using(form: OpsForm | str) -> Iterator[None]:
    """Choose a form for the time of a block, as tests and measurements do."""
    before = _PROCESS.form
    use(form)
    try:
        yield
    finally:
        _PROCESS.form = before


def cpu_kernels() -> CpuKernels | None:
    """Return the kernels for the CPU, or None where plain PyTorch is to be used."""
    return None if _PROCESS.form is OpsForm.PLAIN else _PROCESS.cpu.get()


def cuda_kernels() -> CudaKernels | None:
    """Return the kernels for CUDA, or None where plain PyTorch is to be used."""
    return None if _PROCESS.form is OpsForm.PLAIN else _PROCESS.cuda.get()


def kernels_for(x: Tensor) -> Kernels | None:
    """Return the kernels for a tensor's device and dtype, or None for plain PyTorch."""
    if x.device.type == "cpu":
        return cpu_kernels() if x.dtype == torch.float32 else None
    if x.device.type == "cuda":
        return cuda_kernels() if x.dtype in CUDA_DTYPES else None
    return None
