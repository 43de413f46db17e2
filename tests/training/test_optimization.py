"""Steps that survive bad gradients, and Adam's corrections for lazy regularisation."""

import math

import pytest
import torch
from torch import nn

from training.optimization import GRADIENT_LIMIT, GuardedStep, build_adam

CPU = torch.device("cpu")


def parameter(gradient):
    made = nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


def sgd(*parameters):
    return torch.optim.SGD(parameters, lr=1.0)


def test_good_gradients_pass_unchanged():
    first, second = parameter([1.0, -2.0]), parameter([3.0])
    guard = GuardedStep("Gmain", CPU, max_bad_steps=0)
    assert float(guard.step(sgd(first, second))) == 0
    assert first.tolist() == [-1, 2]
    assert second.tolist() == [-3]
    assert first.grad is None
    assert second.grad is None
    guard.check(0.0)


def test_bad_gradients_are_repaired_and_counted():
    first = parameter([math.nan, math.inf, -math.inf, 0.5])
    second = parameter([2.0])
    guard = GuardedStep("Gmain", CPU, max_bad_steps=1)
    assert float(guard.step(sgd(first, second))) == 1
    assert first.tolist() == [0, -GRADIENT_LIMIT, GRADIENT_LIMIT, -0.5]
    assert second.tolist() == [-2]
    guard.check(0.0)


def test_parameters_without_gradients_stay():
    idle, active = nn.Parameter(torch.ones(2)), parameter([1.0])
    assert float(GuardedStep("Gmain", CPU, 0).step(sgd(idle, active))) == 0
    assert idle.tolist() == [1, 1]


def test_a_step_without_any_gradient_is_an_error():
    with pytest.raises(ValueError, match="gave no gradient to the network that it trains"):
        GuardedStep("Gmain", CPU, 0).step(sgd(nn.Parameter(torch.ones(2))))


def take(guard, pattern):
    for is_bad in pattern:
        guard.step(sgd(parameter([math.nan if is_bad else 1.0])))


@pytest.mark.parametrize(
    ("pattern", "longest"), [([0, 0], 0), ([1, 1, 0, 1], 2), ([1, 0, 1, 1, 1, 0], 3)]
)
def test_longest_row_of_bad_steps(pattern, longest):
    guard = GuardedStep("Gmain", CPU, max_bad_steps=longest)
    take(guard, pattern)
    guard.check(1.0)
    guard.max_bad_steps = longest - 1
    with pytest.raises(FloatingPointError, match=rf"in {longest} steps in a row .*kimg 1.0"):
        guard.check(1.0)


def test_persistent_bad_steps_stop_the_run():
    guard = GuardedStep("Gmain", CPU, max_bad_steps=3)
    take(guard, [1, 1, 1])
    guard.check(2.0)
    take(guard, [1, 0, 0, 0])  # later good steps do not hide the row
    message = (
        r"Gmain: gradients were not finite in 4 steps in a row \(limit 3\) at kimg 12.5: .*--fp32=1"
    )
    with pytest.raises(FloatingPointError, match=message):
        guard.check(12.5)


# Lazy regularisation


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
