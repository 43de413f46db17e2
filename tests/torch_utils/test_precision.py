"""What each precision switches, and what the CPU refuses."""

import pytest
import torch

from torch_utils.precision import Precision

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def switches():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("precision", list(Precision))
def test_products_are_rounded_only_where_asked_for(precision):
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default
    precision.use_on(GPU)
    wanted = precision is Precision.TF32
    assert torch.backends.cudnn.allow_tf32 is wanted
    assert torch.backends.cuda.matmul.allow_tf32 is wanted


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.TF32])
def test_what_the_cpu_refuses(precision):
    with pytest.raises(ValueError, match=f"--precision={precision} needs a GPU"):
        precision.use_on(CPU)


def test_the_type_of_products():
    x = torch.ones(2, 2)
    for precision, wanted in ((Precision.FP32, torch.float32), (Precision.BF16, torch.bfloat16)):
        precision.use_on(CPU)
        with precision.autocast(CPU):
            assert (x @ x).dtype is wanted
        assert not precision.scaler(CPU).is_enabled()
