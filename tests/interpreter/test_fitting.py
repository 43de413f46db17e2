import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from interpreter.ensemble import hidden_widths, member_state
from interpreter.features import FeatureTable
from interpreter.fitting import Fit, FitOptions, Stopping, split_pixels
from tests.helpers.pixel_classifiers import random_maps, small_layout
from torch_utils.seeding import generator_for

LAYOUT = small_layout(16)


def build_table(images=2):
    table = FeatureTable(LAYOUT, images)
    for index in range(images):
        table.put(index, random_maps(LAYOUT, index))
    everything = table.gather(torch.arange(images * 256))
    labels = (everything[:, 0] > 0).long() + (everything[:, -1] > 0).long()
    return table, labels.to(torch.uint8)


def options(**changes):
    base = {"members": 3, "classes": 3, "batch": 16, "max_steps": 8, "evaluate_every": 4}
    return FitOptions(**{**base, **changes})


def ignore(_count):
    pass


def weights(fit_or_ensemble):
    return {k: v.clone() for k, v in fit_or_ensemble.state_dict().items()}


def test_members_train_as_they_would_alone(assert_near):
    """Oracle: each member as a plain sequence with its own Adam on the same batches."""
    table, labels = build_table()
    fit = Fit(table, labels, options(max_steps=5, evaluate_every=100))
    start = [member_state(fit.ensemble, member) for member in range(3)]
    fit.run(None, ignore)
    first, second = hidden_widths(3)
    for member in range(3):
        alone = nn.Sequential(
            *(nn.Linear(LAYOUT.total, first), nn.ReLU(), nn.BatchNorm1d(first)),
            *(nn.Linear(first, second), nn.ReLU(), nn.BatchNorm1d(second), nn.Linear(second, 3)),
        )
        alone.load_state_dict(
            {name.removeprefix("module.layers."): v for name, v in start[member].items()}
        )
        adam = torch.optim.Adam(alone.parameters(), lr=1e-3)
        for step in range(5):
            pixels = fit.sampler.draw((3, 16), generator_for(0, "batch", step))[member]
            loss = F.cross_entropy(alone(table.gather(pixels)), labels[pixels].long())
            adam.zero_grad()
            loss.backward()
            adam.step()
        found = member_state(fit.ensemble, member)
        for name, tensor in alone.state_dict().items():
            if tensor.is_floating_point():
                assert_near(found[f"module.layers.{name}"], tensor)


def test_eight_steps_are_four_and_a_checkpoint_and_four(tmp_path):
    table, labels = build_table()
    whole = Fit(table, labels, options()).run(None, ignore)
    short = Fit(table, labels, options(max_steps=4))
    short.run(tmp_path / "checkpoint.pt", ignore)
    rest = Fit(table, labels, options())
    rest.load(tmp_path / "checkpoint.pt")
    assert rest.step == 4
    continued = rest.run(None, ignore)
    for name, tensor in whole.ensemble.state_dict().items():
        assert torch.equal(tensor, continued.ensemble.state_dict()[name])
    assert whole.history == continued.history


def test_training_learns_what_features_say():
    table, labels = build_table()
    many = options(max_steps=400, evaluate_every=50, batch=64)
    result = Fit(table, labels, many).run(None, ignore)
    assert float((labels == 1).float().mean()) < 0.55
    assert min(result.history[-1]["heldout_accuracy"]) > 0.7
    assert not result.ensemble.training


def test_heldout_tiles_are_whole_and_apart_from_training():
    split = split_pixels(4, 64, options(heldout_fraction=0.25, heldout_pixels=10**6))
    both = torch.cat([split.train, split.heldout])
    assert torch.equal(both.sort().values, torch.arange(4 * 64 * 64))
    assert len(split.heldout) == 64 * 64
    is_held = torch.zeros(4 * 64 * 64, dtype=torch.bool)
    is_held[split.heldout] = True
    tiles = is_held.view(4, 16, 4, 16, 4).transpose(2, 3).flatten(3)
    assert (tiles.all(dim=3) | ~tiles.any(dim=3)).all()


def test_few_heldout_pixels_are_looked_at_and_none_is_trained_on():
    split = split_pixels(2, 32, options(heldout_pixels=5))
    assert len(split.heldout) == 5
    assert not set(split.heldout.tolist()) & set(split.train.tolist())


@pytest.mark.parametrize("balance", [0.0, 0.7])
def test_the_best_weights_of_each_member_are_kept(balance):
    """The loss weighs each pixel by its class's number of training pixels to the power -balance."""
    table, labels = build_table()
    wild = options(
        max_steps=120, evaluate_every=4, patience=3, learning_rate=0.3, class_balance=balance
    )
    fit = Fit(table, labels, wild)
    result = fit.run(None, ignore)
    held = fit.split.heldout
    losses = F.cross_entropy(
        result.ensemble(table.gather(held)).flatten(0, 1),
        labels[held].long().repeat(3),
        reduction="none",
    ).view(3, -1)
    sizes = torch.bincount(labels[fit.split.train].long(), minlength=3).double()
    weights = (sizes**-balance)[labels[held].long()]
    means = (losses * weights).sum(dim=1) / weights.sum()
    for member in range(3):
        best, stale = math.inf, 0
        for loss in (entry["heldout_loss"][member] for entry in result.history):
            if stale == 3:
                break
            best, stale = (loss, 0) if loss < best else (best, stale + 1)
        assert float(means[member]) == pytest.approx(best, rel=1e-5)


def test_the_published_rule_stops_after_fifty_batches_without_a_new_best():
    table, labels = build_table(1)
    fit = Fit(table, labels, options(stopping=Stopping.PUBLISHED, max_steps=0, batch=64))
    assert len(fit.split.heldout) == 0
    assert fit.steps_an_epoch == 4
    fit.step = 17  # behind epoch 3
    fit._stop_as_published([1.0, 1.0, 1.0])
    before = weights(fit._kept)
    for _ in range(50):
        fit._stop_as_published([2.0, 2.0, 0.5])
    assert fit._is_stopped == [False, False, False]
    fit._stop_as_published([2.0, 0.9, 2.0])
    assert fit._is_stopped == [True, False, False]
    after = fit._kept.state_dict()
    assert torch.equal(after["weights.0"][0], fit.ensemble.weights[0][0])
    assert torch.equal(after["weights.0"][1], before["weights.0"][1])


def test_the_published_rule_waits_for_epoch_three():
    table, labels = build_table(1)
    fit = Fit(table, labels, options(stopping=Stopping.PUBLISHED, max_steps=0, batch=64))
    fit.step = 16
    for _ in range(80):
        fit._stop_as_published([1.0, 1.0, 1.0])
    fit.step = 17  # from here on batches count, and no loss of before is the lowest
    for loss in (9.0, *[9.5] * 50):
        fit._stop_as_published([loss, loss, loss])
    assert not any(fit._is_stopped)
    fit._stop_as_published([9.5, 9.5, 8.5])
    assert fit._is_stopped == [True, True, False]


def test_the_limit_counts_epochs_and_steps():
    table, labels = build_table()
    fit = Fit(table, labels, options(max_steps=0, max_epochs=2))
    assert fit.limit == 2 * (len(fit.split.train) // 16)
    assert Fit(table, labels, options(max_steps=3)).limit == 3


def test_the_log_says_where_the_limit_ended_the_training(caplog):
    caplog.set_level("INFO")
    table, labels = build_table()
    fit = Fit(table, labels, options(max_steps=4))
    fit._is_stopped = [True, False, False]
    fit.run(None, ignore)
    assert "2 of 3 members were ended by the limit of 4 steps" in caplog.text
    caplog.clear()
    fit._is_stopped = [True] * 3
    fit.run(None, ignore)
    assert not caplog.text


def test_a_loss_that_is_not_finite_ends_training():
    table, labels = build_table()
    fit = Fit(table, labels, options())
    with torch.no_grad():
        fit.ensemble.weights[0].fill_(math.nan)
    with pytest.raises(FloatingPointError, match="not finite at step 1"):
        fit.run(None, ignore)


@pytest.mark.parametrize(
    ("name", "value"),
    [("members", 0), ("classes", 1), ("batch", 1), ("learning_rate", 0.0), ("patience", 0)],
)
def test_wrong_options_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        options(**{name: value})


def test_a_heldout_fraction_is_a_share():
    with pytest.raises(ValueError, match="heldout_fraction"):
        options(heldout_fraction=1.0)
