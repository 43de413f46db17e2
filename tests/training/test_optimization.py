"""Adam's corrections for lazy regularisation."""

import pytest
import torch
from torch import nn

from training.optimization import build_adam


def parameter(gradient):
    made = nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


@pytest.mark.parametrize(("interval", "ratio"), [(None, 1.0), (4, 4 / 5), (16, 16 / 17)])
def test_adam_is_corrected_for_regularisation_steps(interval, ratio):
    (group,) = build_adam([parameter([1.0])], 0.002, interval).param_groups
    assert group["lr"] == pytest.approx(0.002 * ratio)
    assert group["betas"] == (0, pytest.approx(0.99**ratio))
    assert group["eps"] == 1e-8
    # k + 1 corrected steps forget as k plain ones do.
    if interval is not None:
        assert group["betas"][1] ** (interval + 1) == pytest.approx(0.99**interval)
        assert group["lr"] * (interval + 1) == pytest.approx(0.002 * interval)


def test_first_adam_step_is_the_learning_rate():
    p = parameter([3.0, -1e-3])
    build_adam([p], 0.002, None).step()
    torch.testing.assert_close(p.data, torch.tensor([-0.002, 0.002]), rtol=1e-4, atol=0)
