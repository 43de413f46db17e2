"""Steps of optimisers that survive bad gradients, and end when they persist."""

import math

import pytest
import torch
from torch import nn

from torch_utils.guarded_step import GRADIENT_LIMIT, GuardedStep

CPU = torch.device("cpu")


def parameter(gradient):
    made = nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


def sgd(*parameters):
    return torch.optim.SGD(parameters, lr=1.0)


def guarded(max_bad_steps=0, **options):
    return GuardedStep("Gmain", CPU, "lower --lr", max_bad_steps=max_bad_steps, **options)


def test_good_gradients_pass_unchanged():
    first, second = parameter([1.0, -2.0]), parameter([3.0])
    guard = guarded(0)
    assert float(guard.step(sgd(first, second))) == 0
    assert first.tolist() == [-1, 2]
    assert second.tolist() == [-3]
    assert first.grad is None
    assert second.grad is None
    guard.check("kimg 0.0")


def test_bad_gradients_are_repaired_and_counted():
    first = parameter([math.nan, math.inf, -math.inf, 0.5])
    second = parameter([2.0])
    guard = guarded(1)
    assert float(guard.step(sgd(first, second))) == 1
    assert first.tolist() == [0, -GRADIENT_LIMIT, GRADIENT_LIMIT, -0.5]
    assert second.tolist() == [-2]
    guard.check("kimg 0.0")


def test_parameters_without_gradients_stay():
    idle, active = nn.Parameter(torch.ones(2)), parameter([1.0])
    assert float(guarded(0).step(sgd(idle, active))) == 0
    assert idle.tolist() == [1, 1]


def test_a_step_without_any_gradient_is_an_error():
    with pytest.raises(ValueError, match="gave no gradient to the network that it trains"):
        guarded(0).step(sgd(nn.Parameter(torch.ones(2))))


def take(guard, pattern):
    for is_bad in pattern:
        guard.step(sgd(parameter([math.nan if is_bad else 1.0])))


@pytest.mark.parametrize(
    ("pattern", "longest"), [([0, 0], 0), ([1, 1, 0, 1], 2), ([1, 0, 1, 1, 1, 0], 3)]
)
def test_longest_row_of_bad_steps(pattern, longest):
    guard = guarded(longest)
    take(guard, pattern)
    guard.check("kimg 1.0")
    guard.max_bad_steps = longest - 1
    limit = rf"in {longest} steps in a row \(limit {longest - 1}\) at kimg 1.0: lower --lr"
    with pytest.raises(FloatingPointError, match=limit):
        guard.check("kimg 1.0")


def test_a_loss_scale_falls_instead_of_a_step():
    p = nn.Parameter(torch.zeros(1))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    guard, optimizer = guarded(scaler=scaler), sgd(p)
    for gradient in (math.inf, 4.0):
        scaler.scale(torch.ones([]))  # which makes the scale
        p.grad = torch.tensor([gradient])
        assert float(guard.step(optimizer)) == float(math.isinf(gradient))
    assert p.tolist() == [-1.0]  # one step, by 4 / the halved scale
    assert scaler.get_scale() == 4.0
