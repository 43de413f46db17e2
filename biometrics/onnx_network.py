"""Networks from ONNX files, run by onnxruntime (optional)."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dnnlib.extras import need
from dnnlib.files import sha256_file

_PASSED = {"Cast", "Identity", "Transpose"}  # on the way from the input to the first arithmetic
_NUMBERS = {"value", "value_float", "value_floats"}  # what a Constant may hold
_logger = logging.getLogger(__name__)


class OnnxNetwork(nn.Module):
    """The first output of an ONNX graph of images.

    Attributes:
        hash: SHA-256 of the file; of all files where tensors lie in others beside it.
        channels, size: of the input; None where the file leaves them open.
        takes_bytes: whether the graph begins with the scaling of pixels 0..255.

    Args:
        path: of the file.
        device: of the computation; a GPU is used where onnxruntime has a provider for it.
    Raises: ValueError naming the file; also where tensors lie outside its folder.
    """

    def __init__(self, path: Path, device: str) -> None:
        super().__init__()
        need(f"{path}", "onnx", "onnxruntime")
        try:
            model, self.hash = _read(path)
            self._session = _start(model.SerializeToString(), device)
        except Exception as error:  # protobuf and onnxruntime raise whatever a file leads to
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{path}: not a usable ONNX network: {reason:.300}") from None
        given = self._session.get_inputs()
        shape = given[0].shape if given else []
        if len(given) != 1 or len(shape) != 4:
            shapes = [entry.shape for entry in given]
            raise ValueError(f"{path}: one input of four dimensions is needed, got {shapes}")
        self._input, self._output = given[0].name, self._session.get_outputs()[0].name
        self._dtype = np.float16 if given[0].type == "tensor(float16)" else np.float32
        self._is_last = shape[3] in (1, 3) and shape[1] not in (1, 3)  # channels, as TensorFlow's
        channels, *sides = (shape[3], *shape[1:3]) if self._is_last else shape[1:]
        self._batch = shape[0] if isinstance(shape[0], int) else None
        self.channels = channels if isinstance(channels, int) else None
        self.size = sides[0] if isinstance(sides[0], int) else None
        if sides[0] != sides[1] and self.size is not None:
            raise ValueError(f"{path}: square images are needed, the input is {shape}")
        self.takes_bytes = _takes_bytes(model.graph)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, S, S] float32 -> [N, E] float32, without gradients."""
        array = x.permute(0, 2, 3, 1) if self._is_last else x
        given = array.detach().contiguous().cpu().numpy().astype(self._dtype)
        step = self._batch or max(len(given), 1)
        parts = [self._run(given[i : i + step], step) for i in range(0, len(given), step)]
        rows = np.concatenate(parts).astype(np.float32)
        return torch.from_numpy(rows.reshape(len(rows), -1)).to(x.device)

    def _run(self, images: np.ndarray, step: int) -> np.ndarray:
        """Return the rows of at most `step` images, of which graphs of a fixed batch get all."""
        padding = [(0, step - len(images)), *[(0, 0)] * 3]
        answer = self._session.run([self._output], {self._input: np.pad(images, padding)})[0]
        return np.asarray(answer)[: len(images)]


def _read(path: Path) -> tuple[Any, str]:
    """Return the model with all its tensors inside, and its hash."""
    import onnx  # noqa: PLC0415  # optional
    from onnx import external_data_helper as external  # noqa: PLC0415

    model = onnx.load(str(path), load_external_data=False)
    folder, outside = path.parent.resolve(), set()
    for tensor in _tensors(model):
        if external.uses_external_data(tensor):
            location = {entry.key: entry.value for entry in tensor.external_data}["location"]
            file = (path.parent / location).resolve()
            if not file.is_relative_to(folder):
                raise ValueError(f"tensors in {location!r}, which is outside the file's folder")
            outside.add(file)
    if not outside:
        return model, sha256_file(path)
    external.load_external_data_for_model(model, str(path.parent))
    if any(external.uses_external_data(tensor) for tensor in _tensors(model)):
        raise ValueError("tensors in other files where onnx does not read them")
    hashes = [sha256_file(file) for file in (path, *sorted(outside))]
    return model, hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor in a message, also in attributes, subgraphs and functions."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _tensors(part)


def _start(content: bytes, device: str) -> Any:
    import onnxruntime  # noqa: PLC0415  # optional

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.use_deterministic_compute = True
    options.log_severity_level = 3  # errors
    providers = ["CPUExecutionProvider"]
    if torch.device(device).type == "cuda":
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, "CUDAExecutionProvider")
        else:
            _logger.warning("onnxruntime has no CUDA here: ONNX networks run on the CPU")
    return onnxruntime.InferenceSession(content, options, providers=providers)


def _takes_bytes(graph: Any) -> bool:
    """Tell whether the first arithmetic on the input takes pixels 0..255 to a small range.

    Networks that were converted from MXNet begin so. Source: insightface decides alike, by the
    names of the first nodes.
    """
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415  # optional

    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: helper.get_attribute_value(node.attribute[0])
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name in _NUMBERS
    }
    name = next(entry.name for entry in graph.input if entry.name not in constants)
    while True:
        node = next((node for node in graph.node if name in node.input), None)
        if node is None or node.op_type not in {*_PASSED, "Sub", "Div", "Mul"}:
            return False
        if node.op_type not in _PASSED:
            other = next((constants[n] for n in node.input if n in constants), None)
            if isinstance(other, TensorProto):
                other = numpy_helper.to_array(other)
            largest = 0.0 if other is None else float(np.abs(other).max())
            return 0 < largest < 0.1 if node.op_type == "Mul" else largest > 2
        name = node.output[0]
