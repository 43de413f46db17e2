"""TorchScript modules that give features of images."""

import warnings

import pytest
import torch
from torch import nn

from torch_utils.torchscript import load_feature_network


class Raising(nn.Module):
    def __init__(self, text: str):
        super().__init__()
        self.text = text

    def forward(self, x):
        if x.shape[0] > 0:
            raise RuntimeError(self.text)
        return x


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", torch.OutOfMemoryError),
        ("sizes do not match", ValueError),
    ],
)
def test_a_full_gpu_is_no_fault_of_the_file(tmp_path, text, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Raising(text)).save(str(tmp_path / "net.pt"))
    with pytest.raises(kind, match=text):
        load_feature_network(tmp_path / "net.pt", 3, 16, torch.device("cpu"))
