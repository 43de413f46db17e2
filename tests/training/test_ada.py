"""The adaptive strength: closed forms of its course."""

import logging

import pytest
import torch

from dnnlib.config import from_dict, to_dict
from training.ada import AdaConfig, AdaController
from training.options import AdaMode


def controller(**options):
    return AdaController(AdaConfig(**options))


def run(ada, signal, iterations, batch=32):
    for _ in range(iterations):
        ada.update(signal * batch, batch)


def test_p_goes_from_zero_to_one_in_kimg():
    ada = controller(kimg=8, interval=4)
    reached = []
    for _ in range(8_000 // 32):
        run(ada, 1.0, 1)
        reached.append(ada.p)
    assert ada.p == pytest.approx(8_000 // 128 * 128 / 8_000)  # 248 of 250 iterations are adjusted
    assert reached[:4] == [0, 0, 0, pytest.approx(0.016)]
    assert reached == sorted(reached)


def test_default_step_is_the_published_one():
    ada = controller()
    run(ada, 1.0, 4, batch=64)
    assert ada.p == pytest.approx(64 * 4 / 500_000)


@pytest.mark.parametrize(("signal", "start", "end"), [(1.0, 0.99, 1.0), (-1.0, 0.01, 0.0)])
def test_p_stays_between_zero_and_one(signal, start, end):
    ada = controller(p=start, kimg=1)
    run(ada, signal, 40)
    assert ada.p == end


@pytest.mark.parametrize(
    ("signal", "direction"), [(0.75, 1), (0.5, 0), (0.25, -1), (-1.0, -1), (1.0, 1)]
)
def test_direction_is_the_sign_of_the_difference(signal, direction):
    ada = controller(p=0.5, target=0.5, interval=1, kimg=1)
    run(ada, signal, 1)
    assert ada.p == pytest.approx(0.5 + direction * 0.032)


def test_signal_is_the_mean_over_the_interval():
    ada = controller(p=0.5, interval=2, kimg=1)
    ada.update(10.0, 10)
    ada.update(-10.0, 30)
    assert ada.p == pytest.approx(0.5 - 0.04)
    ada.update(8.0, 10)  # the next interval starts afresh
    ada.update(8.0, 10)
    assert ada.p == pytest.approx(0.5 - 0.04 + 0.02)


def test_modalities_do_not_touch_each_other():
    pair = {name: controller(p=0.5, interval=1, kimg=1) for name in ("rgb", "nir")}
    run(pair["rgb"], 1.0, 3)
    run(pair["nir"], -1.0, 2)
    assert pair["rgb"].p == pytest.approx(0.596)
    assert pair["nir"].p == pytest.approx(0.436)


@pytest.mark.parametrize("mode", [AdaMode.NONE, AdaMode.FIXED])
def test_other_modes_keep_their_strength(mode):
    p = 0.3 if mode is AdaMode.FIXED else 0.0
    ada = controller(mode=mode, p=p, interval=1, kimg=1)
    run(ada, 1.0, 3)
    assert ada.p == p


def test_an_interval_without_signal_leaves_p(caplog):
    ada = controller(p=0.5, interval=1)
    with caplog.at_level(logging.WARNING):
        ada.update(torch.tensor(float("nan")), 32)
    assert ada.p == 0.5
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_continuing_equals_not_stopping():
    signals = [1.0, 0.9, -0.2, 0.5, 0.8, 0.1, 1.0, 1.0, 0.7, 0.9]
    whole, first, second = (controller(p=0.2, interval=4, kimg=1) for _ in range(3))
    for signal in signals:
        run(whole, signal, 1)
    for signal in signals[:6]:
        first.update(torch.tensor(signal * 32), 32)
    state = first.state_dict()
    assert all(type(value) in (float, int) for value in state.values())
    second.load_state_dict(state)
    for signal in signals[6:]:
        run(second, signal, 1)
    assert second.p == pytest.approx(whole.p, abs=0)
    assert second.state_dict() == pytest.approx(whole.state_dict())


def test_config_survives_plain_containers():
    config = AdaConfig(mode=AdaMode.FIXED, p=0.25)
    assert to_dict(config)["mode"] == "fixed"
    assert from_dict(AdaConfig, to_dict(config)) == config
