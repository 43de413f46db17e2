"""What all tests share: one thread, devices, tolerances, and no GPU tests without a GPU."""

import pytest
import torch

# (rtol, atol) of results that two implementations or devices compute in the same dtype.
TOLERANCES = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (1e-4, 1e-4),
    torch.bfloat16: (5e-2, 5e-2),
    torch.float16: (1e-2, 1e-2),
}


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs an NVIDIA GPU: PyTorch finds no CUDA device")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Hide GPUs from tests that do not ask for one: they are the same on every machine."""
    if item.get_closest_marker("cuda"):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Sums round differently on other numbers of threads; tiny tensors gain nothing from them."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _full_float32():
    """GPUs convolve float32 in TF32 unless told otherwise."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    return torch.device(request.param)


@pytest.fixture
def assert_near():
    """Compare two tensors with the tolerance of a dtype, by default the expected one's."""

    def compare(actual, expected, dtype=None):
        rtol, atol = TOLERANCES[dtype or expected.dtype]
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)

    return compare


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Tiny networks, training identities, and one data set of new identities; only to be read."""
    from tests.helpers.recognition_data import write_shop  # noqa: PLC0415  # few tests need it

    return write_shop(tmp_path_factory.mktemp("shop"))
