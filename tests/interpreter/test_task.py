import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from interpreter.ensemble import hidden_widths, load_models, member_state
from interpreter.experiment import Experiment, Stopping
from interpreter.features import FeatureTable
from interpreter.task import EnsembleTask, PixelSampler, split_pixels
from tests.helpers.pixel_classifiers import random_maps, small_layout
from torch_utils.seeding import generator_for
from torch_utils.trainer import Cadence, Trainer

LAYOUT = small_layout(16)


def build_table(images=2):
    table = FeatureTable(LAYOUT, images)
    for index in range(images):
        table.put(index, random_maps(LAYOUT, index))
    everything = table.gather(torch.arange(images * 256))
    labels = (everything[:, 0] > 0).long() + (everything[:, -1] > 0).long()
    return table, labels.to(torch.uint8)


def experiment(**changes):
    base = {"model_num": 3, "batch_size": 16, "max_steps": 8, "evaluate_every": 4}
    return Experiment(**{**base, **changes})


def build(images=2, **changes):
    table, labels = build_table(images)
    task = EnsembleTask(labels, LAYOUT, experiment(**changes), 3, torch.device("cpu"))
    task.table = table
    return task


def train(task, folder):
    """Train to the end; return the rows of stats.jsonl, and the models as they are written."""
    folder.mkdir(exist_ok=True)
    trainer = Trainer(task, folder, Cadence(row_steps=task.experiment.evaluate_every))
    trainer.run()
    task.export(folder)
    lines = (folder / "stats.jsonl").read_text().splitlines()
    rows = [{name: entry["mean"] for name, entry in json.loads(line).items() if name != "timestamp"}
            for line in lines]  # fmt: skip
    return rows, load_models(folder).ensemble


def test_members_train_as_they_would_alone(assert_near):
    """Oracle: each member as a plain sequence with its own Adam on the same batches."""
    table, labels = build_table()
    task = build()
    start = [member_state(task.ensemble, member) for member in range(3)]
    for step in range(5):
        task.step(step)
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
            pixels = task.sampler.sample((3, 16), generator_for(0, "batch", step))[member]
            loss = F.cross_entropy(alone(table.gather(pixels)), labels[pixels].long())
            adam.zero_grad()
            loss.backward()
            adam.step()
        found = member_state(task.ensemble, member)
        for name, tensor in alone.state_dict().items():
            if tensor.is_floating_point():
                assert_near(found[f"module.layers.{name}"], tensor)


def test_training_learns_what_features_say(tmp_path):
    task = build(max_steps=400, evaluate_every=50, batch_size=64)
    rows, ensemble = train(task, tmp_path)
    assert float((build_table()[1] == 1).float().mean()) < 0.55
    assert rows[-1]["Metrics/heldout_accuracy"] > 0.7
    assert not ensemble.training


def test_heldout_tiles_are_whole_and_apart_from_training():
    split = split_pixels(4, 64, experiment(heldout_fraction=0.25, heldout_pixels=10**6))
    both = torch.cat([split.train, split.heldout])
    assert torch.equal(both.sort().values, torch.arange(4 * 64 * 64))
    assert len(split.heldout) == 64 * 64
    is_held = torch.zeros(4 * 64 * 64, dtype=torch.bool)
    is_held[split.heldout] = True
    tiles = is_held.view(4, 16, 4, 16, 4).transpose(2, 3).flatten(3)
    assert (tiles.all(dim=3) | ~tiles.any(dim=3)).all()


def test_few_heldout_pixels_are_looked_at_and_none_is_trained_on():
    split = split_pixels(2, 32, experiment(heldout_pixels=5))
    assert len(split.heldout) == 5
    assert not set(split.heldout.tolist()) & set(split.train.tolist())


@pytest.mark.parametrize("balance", [0.0, 0.7])
def test_the_best_weights_of_each_member_are_kept(tmp_path, balance):
    """The loss weighs each pixel by its class's number of training pixels to the power -balance."""
    table, labels = build_table()
    task = build(
        max_steps=120, evaluate_every=4, patience=3, learning_rate=0.3, class_balance=balance
    )
    held = task.split.heldout
    sizes = torch.bincount(labels[task.split.train].long(), minlength=3).double()
    weights = (sizes**-balance)[labels[held].long()]

    def heldout_losses(ensemble):
        ensemble.eval()
        logits = ensemble(table.gather(held)).flatten(0, 1)
        found = F.cross_entropy(logits, labels[held].long().repeat(3), reduction="none")
        return ((found.view(3, -1) * weights).sum(dim=1) / weights.sum()).tolist()

    history, original = [], task.validate

    def validate(folder):
        history.append(heldout_losses(task.ensemble))
        return original(folder)

    task.validate = validate
    _, ensemble = train(task, tmp_path)
    for member, kept in enumerate(heldout_losses(ensemble)):
        best, stale = math.inf, 0
        for loss in (losses[member] for losses in history):
            if stale == 3:
                break
            best, stale = (loss, 0) if loss < best else (best, stale + 1)
        assert kept == pytest.approx(best, rel=1e-5)


def published():
    return build(1, stopping=Stopping.PUBLISHED, max_steps=0, batch_size=64)


def test_the_published_rule_stops_after_fifty_batches_without_a_new_best():
    task = published()
    assert len(task.split.heldout) == 0
    assert task.steps_an_epoch == 4
    task.done = 17  # behind epoch 3
    task.stop_as_published([1.0, 1.0, 1.0])
    before = task.kept.weights[0][1].clone()
    for _ in range(50):
        task.stop_as_published([2.0, 2.0, 0.5])
    assert task.is_stopped == [False, False, False]
    task.stop_as_published([2.0, 0.9, 2.0])
    assert task.is_stopped == [True, False, False]
    assert torch.equal(task.kept.weights[0][0], task.ensemble.weights[0][0])
    assert torch.equal(task.kept.weights[0][1], before)


def test_the_published_rule_waits_for_epoch_three():
    task = published()
    task.done = 16
    for _ in range(80):
        task.stop_as_published([1.0, 1.0, 1.0])
    task.done = 17  # from here on batches count, and no loss of before is the lowest
    for loss in (9.0, *[9.5] * 50):
        task.stop_as_published([loss, loss, loss])
    assert not any(task.is_stopped)
    task.stop_as_published([9.5, 9.5, 8.5])
    assert task.is_stopped == [True, True, False]


def test_the_published_rule_keeps_members_that_the_limit_ends(tmp_path):
    task = build(stopping=Stopping.PUBLISHED)
    _, ensemble = train(task, tmp_path)
    assert torch.equal(ensemble.weights[0], task.ensemble.weights[0])


def test_the_limit_counts_epochs_and_steps():
    task = build(max_steps=0, max_epochs=2)
    assert task.steps == 2 * (len(task.split.train) // 16)
    assert build(max_steps=3).steps == 3


def test_the_log_says_where_the_limit_ended_the_training(caplog, tmp_path):
    caplog.set_level("INFO")
    task = build(max_steps=4)
    task.is_stopped = [True, False, False]
    task.export(tmp_path)
    assert "2 of 3 members were ended by the limit of 4 steps" in caplog.text
    caplog.clear()
    task.is_stopped = [True] * 3
    task.export(tmp_path)
    assert not caplog.text


def test_weights_that_are_not_finite_end_training(tmp_path):
    task = build()
    with torch.no_grad():
        task.ensemble.weights[0].fill_(math.nan)
    with pytest.raises(FloatingPointError, match="interpreter: .* not finite|no longer finite"):
        train(task, tmp_path)


# Which pixels a step sees


PIXELS = torch.arange(100, 1100)
LABELS = torch.where(PIXELS < 1000, 0, torch.where(PIXELS < 1090, 2, 3))  # 900, 0, 90, 10
COUNTS = torch.tensor([900.0, 0.0, 90.0, 10.0])


def sample(balance, count=60_000):
    sampler = PixelSampler(PIXELS, LABELS, 4, balance)
    return sampler.sample((count,), generator_for(0, "test"))


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_classes_are_sampled_in_proportion_to_a_power_of_their_size(balance):
    wanted = torch.where(COUNTS > 0, COUNTS ** (1 - balance), 0.0)
    wanted = wanted / wanted.sum()
    found = torch.bincount(LABELS[sample(balance) - 100], minlength=4) / 60_000
    deviation = (wanted * (1 - wanted) / 60_000).sqrt()
    assert ((found - wanted).abs() <= 4 * deviation).all()
    assert found[1] == 0


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_pixels_of_a_class_are_sampled_alike(balance):
    """Chi-squared of the 90 pixels of class 2: mean 89, deviation 13.3."""
    pixels = sample(balance)
    counts = torch.bincount(pixels[LABELS[pixels - 100] == 2] - 1000, minlength=90)[:90].double()
    expected = counts.mean()
    assert ((counts - expected) ** 2 / expected).sum() < 89 + 5 * 13.3
    assert counts.min() > 0


def test_every_pixel_can_be_sampled_and_no_other():
    assert set(sample(1.0, 200_000).tolist()) == set(PIXELS.tolist())


def test_weights_make_a_loss_over_all_pixels_the_mean_over_draws():
    sampler = PixelSampler(PIXELS, LABELS, 4, 0.5)
    weighted = sampler.weights[LABELS].double()
    by_class = torch.zeros(4, dtype=torch.float64).index_add(0, LABELS, weighted)
    torch.testing.assert_close(by_class / by_class.sum(), sampler.shares, rtol=1e-6, atol=1e-9)


def test_shape_and_order_are_a_function_of_the_generator():
    sampler = PixelSampler(PIXELS, LABELS, 4, 0.5)
    first, again = (sampler.sample((3, 5), generator_for(1, "x")) for _ in range(2))
    assert first.shape == (3, 5)
    assert torch.equal(first, again)
