"""Adam's corrections for lazy regularisation, and the running average of the generator."""

import copy

import pytest
import torch
from torch import nn

from tests.helpers.networks import random_network, small_generator_config
from training.state import build_adam, ema_beta, update_ema


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


@pytest.mark.parametrize("batch", [4, 32, 1000])
def test_half_life(batch):
    beta = ema_beta(batch=batch, nimg=0, ema_kimg=10, rampup=None)
    assert beta ** (10_000 / batch) == pytest.approx(0.5)


def test_rampup_limits_the_half_life():
    early = ema_beta(batch=64, nimg=2000, ema_kimg=10, rampup=0.05)
    assert early ** (100 / 64) == pytest.approx(0.5)  # a half-life of 5 % of 2000 images
    late = ema_beta(batch=64, nimg=10**6, ema_kimg=10, rampup=0.05)
    assert late == ema_beta(batch=64, nimg=0, ema_kimg=10, rampup=None)


@pytest.mark.parametrize("options", [{"ema_kimg": 0, "rampup": None}, {"ema_kimg": 1, "rampup": 0}])
def test_no_half_life_copies(options):
    assert ema_beta(batch=1, nimg=1000, **options) == 0


def test_update_moves_parameters_and_copies_buffers():
    generator = random_network(small_generator_config(), seed=1)
    ema = random_network(small_generator_config(), seed=2)
    before = copy.deepcopy(ema.state_dict())
    kept = copy.deepcopy(generator.state_dict())
    update_ema(ema, generator, 0.75)
    parameters = dict(ema.named_parameters())
    assert set(ema.state_dict()) - set(parameters) >= {"mapping.w_avg"}
    for name, tensor in ema.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * kept[name] if name in parameters else kept[name]
        torch.testing.assert_close(tensor, expected)
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, kept[name])


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_limits(beta):
    generator = random_network(small_generator_config(), seed=1)
    ema = random_network(small_generator_config(), seed=2)
    expected = [p.clone() for p in (generator if beta == 0 else ema).parameters()]
    update_ema(ema, generator, beta)
    for actual, wanted in zip(ema.parameters(), expected, strict=True):
        assert torch.equal(actual, wanted)
