"""A GPU that is not there: tensors that say cuda:0 and compute on the CPU.

C++ sees tensors on the CPU, so derivatives of all orders, optimisers and decisions that depend on
numbers run as they are; Python sees the device, and so does the code under test. What PyTorch would
refuse on a GPU is refused: operations that mix devices, generators of another device. What makes
the host wait for the GPU, and what makes cuDNN copy, is counted by the line that asked for it.
"""

import contextlib
import sys
import types
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch._dynamo  # optimisers import it when they first step, and it looks around in torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda", 0)
ROOT = str(Path(__file__).parents[2])
# Operations whose result, or its size, depends on numbers that only the GPU has.
WAITING = {
    "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "bincount", "isin",
    "_unique2", "unique_dim", "unique_consecutive", "histc", "repeat_interleave", "_linalg_eigh",
}  # fmt: skip
_CONVOLUTIONS = {"convolution": slice(0, 2), "convolution_backward": slice(0, 3)}
_LARGEST_KERNEL = 8
_HOST_READS = (Tensor.cpu, Tensor.tolist)
_SMALL = 4  # channels or pixels a side, whose conversion costs nothing


@dataclass
class Record:
    """What the code under test did, each by operation and place.

    Attributes:
        waits: the host waited for the GPU.
        conversions: convolutions of operands that lie differently in memory.
        large_kernels: convolutions with kernels of the size of feature maps.
    """

    waits: Counter = field(default_factory=Counter)
    conversions: Counter = field(default_factory=Counter)
    large_kernels: Counter = field(default_factory=Counter)

    def clear(self):
        for counter in (self.waits, self.conversions, self.large_kernels):
            counter.clear()

    def wait(self, what):
        self.waits[f"{what} at {_place()}"] += 1


_RECORD = Record()


def _place():
    """Return file:line of the innermost frame of the project, tests left out."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(ROOT) and not name.startswith((f"{ROOT}/tests/", f"{ROOT}/.venv/")):
            return f"{name[len(ROOT) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "a test"


class PretendTensor(Tensor):
    """A tensor of the GPU; `real` has its numbers."""

    @staticmethod
    def __new__(cls, real, requires_grad=False):
        made = Tensor._make_wrapper_subclass(
            cls,
            real.size(),
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            requires_grad=requires_grad,
        )
        made.real_tensor = real
        return made

    device = property(lambda _: CUDA)
    is_cuda = property(lambda _: True)
    is_cpu = property(lambda _: False)
    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self):
        return f"PretendTensor({tuple(self.shape)}, {self.dtype})"

    def __deepcopy__(self, memo):
        with torch.no_grad():
            twin = PretendTensor(self.real_tensor.clone(), self.requires_grad)
        twin.__dict__.update({k: v for k, v in self.__dict__.items() if k != "real_tensor"})
        return memo.setdefault(id(self), twin)

    def __reduce_ex__(self, protocol):
        return self.real_tensor.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = []
        real_args, real_kwargs = _map(lambda x: tensors.append(x) or _real(x), (args, kwargs))
        _check_devices(name, args, tensors)
        _note_waits(name, args)
        result = func(*real_args, **real_kwargs)
        if name in _CONVOLUTIONS:
            _note_convolution(name, args)
            result = _as_cudnn_lays_out(result, args[_CONVOLUTIONS[name]])
        known = {id(_real(x)): x for x in tensors}

        def wrap(x):
            is_shape = x.device.type == "meta"  # autograd asks for shapes alone
            return known[id(x)] if id(x) in known else x if is_shape else PretendTensor(x)

        return _map(wrap, result)


def _map(function, x):
    """Apply a function to the tensors in nested arguments."""
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, (list, tuple)):
        return type(x)([_map(function, y) for y in x])
    if isinstance(x, dict):
        return {key: _map(function, y) for key, y in x.items()}
    return x


def _real(x):
    return x.real_tensor if isinstance(x, PretendTensor) else x


def _is_on_cpu(x):
    return isinstance(x, Tensor) and not isinstance(x, PretendTensor)


def _is_pinned(x):
    return getattr(x, "is_pinned_here", False)


def _check_devices(name, args, tensors):
    if name in ("copy_", "_to_copy"):
        return
    if name.startswith(("index", "_index_put")):  # indices may be on the CPU
        tensors = [x for x in args if isinstance(x, Tensor)]
    for x in tensors:
        # Formulas of derivatives, in C++, make zeros on the device that they see.
        is_zero = torch._C._current_graph_task_id() >= 0 and not x.any() if _is_on_cpu(x) else True
        if not is_zero and x.ndim > 0:
            raise RuntimeError(
                f"Expected all tensors to be on the same device: {name} at {_place()} got one of"
                f" {list(x.shape)} on the CPU"
            )


def _note_waits(name, args):
    if name in WAITING:
        _RECORD.wait(name)
    if name == "copy_":
        to, source, *rest = args
        if _is_on_cpu(to):
            _RECORD.wait("copy to the CPU")
        elif _is_on_cpu(source) and source.ndim > 0 and not (any(rest) and _is_pinned(source)):
            _RECORD.wait("copy from the CPU")
    if name.startswith(("index", "_index_put")) and isinstance(args[1], (list, tuple)):
        is_fill = name != "index" and args[2].numel() == 1  # which PyTorch does by the mask
        for index in args[1]:
            if (
                index is not None
                and not is_fill
                and (index.dtype == torch.bool or _is_on_cpu(index))
            ):
                _RECORD.wait(f"{name} by {'a mask' if index.dtype == torch.bool else 'the CPU'}")


def _note_convolution(name, args):
    operands = args[_CONVOLUTIONS[name]]
    layouts = set()
    is_large = min(side for x in operands[:-1] for side in x.shape[1:]) > _SMALL
    for x in operands:
        is_nhwc = x.is_contiguous(memory_format=torch.channels_last)
        if is_large and is_nhwc != x.is_contiguous():
            layouts.add(is_nhwc)
    if len(layouts) > 1:
        _RECORD.conversions[f"{name} {[list(x.shape) for x in operands]} at {_place()}"] += 1
    if name == "convolution" and min(args[1].shape[2:]) > _LARGEST_KERNEL:
        _RECORD.large_kernels[f"{[list(x.shape) for x in operands]} at {_place()}"] += 1


def _as_cudnn_lays_out(result, operands):
    """Return results with channels innermost where one of the operands has them so."""
    if any(torch._prims_common.suggest_memory_format(x) == torch.channels_last for x in operands):
        return _map(
            lambda x: x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, result
        )
    return result


class PretendGenerator(torch.Generator):
    """A generator that says where it was asked to be."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, device="cpu")
        made.place = torch.device(device)
        return made

    device = property(lambda self: CUDA if self.place.type == "cuda" else self.place)


class _Mode(TorchFunctionMode):
    """Makes what is wanted on the GPU there, and moves what goes there or comes back."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        if isinstance(first, PretendTensor) and func in _HOST_READS:
            _RECORD.wait(func.__name__)
            return func(first.detach().real_tensor.clone())
        if func is Tensor.pin_memory:
            pinned = first.clone()
            pinned.is_pinned_here = True
            return pinned
        if func is Tensor.to:
            return _move(first, *args[1:], **kwargs)
        if func is torch.as_tensor and isinstance(first, Tensor):
            return _move(first, kwargs.get("device", first.device), kwargs.get("dtype"))
        device = kwargs.get("device")
        is_made = device is not None and torch.device(device).type == "cuda"
        is_here = is_made or isinstance(first, PretendTensor)
        _check_generator(func, kwargs.get("generator"), "cuda" if is_here else "cpu")
        if not is_made or func is torch._C._nn._parse_to:
            return func(*args, **kwargs)
        del kwargs["device"]
        if func in (torch.tensor, torch.as_tensor):
            _RECORD.wait("numbers from the host")
        made = func(*args, **kwargs)
        return made if isinstance(made, PretendTensor) else PretendTensor(made)


def _check_generator(func, generator, wanted):
    if generator is not None and generator.device.type != wanted:
        raise RuntimeError(f"{func.__name__}: generator on {generator.device}, not on {wanted}")


def _move(tensor, *args, **kwargs):
    """Do what Tensor.to does."""
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    is_copy = kwargs.pop("copy", False)
    device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
    options = {} if layout is None else {"memory_format": layout}
    dtype, device = dtype or tensor.dtype, device or tensor.device
    is_here = isinstance(tensor, PretendTensor)
    if device.type == "cuda" and not is_here:
        if not (non_blocking and _is_pinned(tensor)):
            _RECORD.wait("copy from the CPU")
        assert not (tensor.requires_grad and tensor.grad_fn), "parameters move before they are used"
        return PretendTensor(tensor.detach().to(dtype, copy=True, **options))
    if device.type == "cpu" and is_here:
        _RECORD.wait("copy to the CPU")
        return tensor.detach().real_tensor.to(dtype, copy=True, **options)
    with torch._C.DisableTorchFunction():
        return tensor.to(dtype, copy=is_copy, **options)


def _no_grad(inference_mode):
    inference_mode.held = torch.no_grad()
    return inference_mode.held


@contextlib.contextmanager
def pretend_gpu(monkeypatch):
    """Let PyTorch find one GPU while the block runs; yields the Record, empty."""
    stream = types.SimpleNamespace(cuda_stream=0, synchronize=lambda: None)
    properties = types.SimpleNamespace(name="none", total_memory=80 << 30, major=9, minor=0)
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "current_stream": stream,
        "device": contextlib.nullcontext(), "get_device_name": "none", "set_device": None,
        "get_device_capability": (9, 0), "get_device_properties": properties,
        "mem_get_info": (80 << 30, 80 << 30), "max_memory_allocated": 0, "empty_cache": None,
        "reset_peak_memory_stats": None, "is_current_stream_capturing": False,
        "get_rng_state": torch.empty(0), "set_rng_state": None, "manual_seed_all": None,
    }  # fmt: skip
    _RECORD.clear()
    with monkeypatch.context() as patch:
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
        patch.setattr(torch.cuda, "synchronize", lambda *_: _RECORD.wait("synchronize"))
        patch.setattr(torch, "Generator", PretendGenerator)
        # Wrappers cannot be inference tensors.
        patch.setattr(torch.inference_mode, "__enter__", lambda self: _no_grad(self).__enter__())
        patch.setattr(torch.inference_mode, "__exit__", lambda self, *a: self.held.__exit__(*a))
        # A module's parameters become others, and do not take over the data of the new ones.
        patch.setattr(torch, "_has_compatible_shallow_copy_type", lambda a, b: type(a) is type(b))
        with _Mode():
            yield _RECORD
