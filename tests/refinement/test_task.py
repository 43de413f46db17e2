"""Training: phases, what each updates, continuation, regions, bad input."""

import math

import pytest
import torch

from refinement.images import Masks, weight_table
from refinement.options import Measure, Norm
from refinement.task import MODEL_FILE, Phase, RefinementTask
from tests.helpers.images import write_pairs
from tests.helpers.pretend_gpu import CUDA, pretend_gpu
from tests.helpers.refinement import CPU, joint, run, small_config, write_real, write_rendered
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.trainer import Cadence, Trainer


@pytest.fixture
def sides(tmp_path):
    return joint(write_rendered(tmp_path / "a")), joint(write_real(tmp_path / "b"))


def steps_of(task):
    """Take all steps; yield the terms of each."""
    for index in range(task.steps):
        yield task.update(index)


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(module, before):
    return any(not torch.equal(tensor, before[name]) for name, tensor in weights(module).items())


def test_phases_come_in_order_and_touch_their_own_networks(sides):
    task = RefinementTask(*sides, small_config(starts_as_identity=False), CPU)
    seen = []
    for index in range(task.steps):
        before = weights(task.refiner), weights(task.discriminator)
        phase, terms = task.phase_at(index), task.update(index)
        has_changed = changed(task.refiner, before[0]), changed(task.discriminator, before[1])
        seen.append(phase)
        assert (
            has_changed
            == {
                Phase.REFINER_WARMUP: (True, False),
                Phase.DISCRIMINATOR_WARMUP: (False, True),
                Phase.ROUNDS: (True, True),
            }[phase]
        )
        of_refiner = {"Loss/regularisation", "Loss/realism"}
        of_discriminator = {"Loss/discriminator", "Accuracy/refined", "Accuracy/real"}
        assert (
            set(terms)
            == {
                Phase.REFINER_WARMUP: {"Loss/regularisation"},
                Phase.DISCRIMINATOR_WARMUP: of_discriminator,
                Phase.ROUNDS: of_refiner | of_discriminator,
            }[phase]
        )
    assert seen == [Phase.REFINER_WARMUP, *[Phase.DISCRIMINATOR_WARMUP] * 2, *[Phase.ROUNDS] * 4]


def test_a_refiner_that_starts_as_identity_needs_no_warm_up(sides):
    task = RefinementTask(*sides, small_config(refiner_warmup=3), CPU)
    before = weights(task.refiner)
    for index in range(3):
        assert task.update(index)["Loss/regularisation"] == 0
    assert not changed(task.refiner, before)


def test_warm_up_teaches_the_published_form_to_return_its_input(sides):
    config = small_config(
        starts_as_identity=False, width=16, refiner_warmup=60, lr=0.01, norm=Norm.L2
    )
    task = RefinementTask(*sides, config, CPU)
    losses = [float(task.update(index)["Loss/regularisation"]) for index in range(60)]
    assert losses[-1] < 0.2 * losses[0]


def test_updates_a_round(sides, monkeypatch):
    config = small_config(
        refiner_warmup=0, discriminator_warmup=0, refiner_updates=3, discriminator_updates=2
    )
    task = RefinementTask(*sides, config, CPU)
    calls = []
    descend = task._descend
    monkeypatch.setattr(
        task, "_descend", lambda name, loss: (calls.append(name), descend(name, loss))
    )
    task.update(0)
    assert calls == ["refiner"] * 3 + ["discriminator"] * 2


def test_half_of_the_refined_images_are_old_and_half_are_kept(sides):
    config = small_config(refiner_warmup=0, discriminator_warmup=1, history=5, refiner_updates=1)
    task = RefinementTask(*sides, config, CPU)
    task.update(0)
    assert len(task.history) == 0  # the warm-up's images are not refined yet
    drawn, lengths = [], []
    for index in range(1, 5):
        start = task.drawn["rendered"]
        task.update(index)
        drawn.append(task.drawn["rendered"] - start)
        lengths.append(len(task.history))
    assert lengths == [2, 4, 5, 5]
    assert drawn == [4 + 4, 4 + 2, 4 + 2, 4 + 2]


def test_the_refiner_darkens_images_as_the_real_ones_are(sides):
    config = small_config(steps=40, weight=0.0, discriminator_warmup=20, lr=0.02)
    task = RefinementTask(*sides, config, CPU)
    list(steps_of(task))
    before = sides[0].batch(range(4))
    after = task.trained().refine(before)
    assert after.float().mean() < 0.8 * before.float().mean()


def test_the_weight_keeps_images_near(sides):
    found = []
    for weight in (0.0, 100.0):
        task = RefinementTask(*sides, small_config(steps=10, weight=weight), CPU)
        *_, terms = steps_of(task)
        found.append(float(terms["Loss/regularisation"]))
    assert found[1] < 0.3 * found[0]


def test_weights_keep_regions(sides):
    """Where all pixels are pulled alike, one moves by what its region's weight allows."""
    objective = RefinementTask(*sides, small_config(weight=2.0, norm=Norm.L2), CPU).objective
    pixel_weights = torch.tensor([[[1.0, 100.0], [5.0, 1.0]]])
    x = torch.zeros(1, 4, 2, 2)
    expected = -1 / (2 * 2 * pixel_weights)  # least of pull + weight * w * change^2
    images = expected[:, None].repeat(1, 4, 1, 1).requires_grad_()
    pull = images.flatten(1).mean(1)
    terms = {
        "realism": pull,
        "regularisation": objective.regularisation(x, images, pixel_weights),
    }
    objective.total(terms).backward()
    torch.testing.assert_close(images.grad, torch.zeros_like(images))


def test_regularisation_is_weighted_by_region(sides, tmp_path):
    config = small_config(region_weights=(("1", 0.0),))
    masks = Masks(sides[0].pairs)
    table = weight_table(dict(config.region_weights), ())
    task = RefinementTask(*sides, config, CPU, masks=masks, class_weights=table)
    x, pixel_weights = task._draw_rendered(4)
    assert pixel_weights[:, :, :8].eq(1).all()
    assert pixel_weights[:, :, 8:].eq(0).all()
    moved = x.clone()
    moved[..., 8:] += 1
    assert task.objective.regularisation(x, moved, pixel_weights).tolist() == [0] * 4
    moved[..., :8] += 1
    found = task.objective.regularisation(x, moved, pixel_weights)
    torch.testing.assert_close(found, torch.full([4], 0.5))


def test_cycle_trains_a_way_back(sides):
    config = small_config(cycle=5.0, steps=15, starts_as_identity=False)
    task = RefinementTask(*sides, config, CPU)
    before = weights(task.modules["back"])
    rows = list(steps_of(task))
    assert changed(task.modules["back"], before)
    assert {"Loss/cycle_rendered", "Loss/cycle_real"} <= set(rows[-1])
    assert rows[-1]["Loss/cycle_rendered"] < rows[0]["Loss/cycle_rendered"]


def test_features_of_a_given_network(sides):
    config = small_config(measure=Measure.FEATURES)
    task = RefinementTask(*sides, config, CPU, feature_network=lambda x: x[:, :1] * 3)
    x = torch.zeros(2, 4, 4, 4)
    assert task.objective.regularisation(x, x + 1, None).tolist() == [3, 3]


@pytest.mark.parametrize("modalities", [("rgb",), ("nir",), ("rgb", "nir")])
def test_colour_grey_and_both(tmp_path, modalities):
    rendered = joint(write_rendered(tmp_path / "a"), modalities)
    real = joint(write_real(tmp_path / "b"), modalities)
    task, record = run(rendered, real, small_config(steps=1), tmp_path / "out")
    assert task.refiner.config.channels == sum(rendered.channels)
    assert record["result"]["Progress/step"] == 4


# Continuation


def test_a_checkpoint_holds_everything(sides, tmp_path):
    """Two trainings, one of which takes over the other's state half way, stay equal."""
    one, other = (RefinementTask(*sides, small_config(cycle=1.0, steps=6), CPU) for _ in range(2))
    for index in range(6):
        one.update(index)
    save_checkpoint(tmp_path / "state.pt", one.state_dict())
    other.load_state_dict(load_checkpoint(tmp_path / "state.pt", CPU))
    for index in range(6, 9):
        assert one.update(index) == other.update(index)
    assert torch.equal(
        one.history.draw(5, torch.Generator()), other.history.draw(5, torch.Generator())
    )


def test_global_random_numbers_play_no_part(sides, tmp_path):
    for seed in (1, 2):
        torch.manual_seed(seed)
        run(*sides, small_config(steps=1), tmp_path / str(seed))
    run(*sides, small_config(steps=1, seed=3), tmp_path / "other")
    found = [(tmp_path / name / MODEL_FILE).read_bytes() for name in ("1", "2", "other")]
    assert found[0] == found[1] != found[2]


# Bad input


def test_weights_are_looked_at_before_a_checkpoint(sides, tmp_path):
    """The losses of the last step came before its update, and are finite."""
    task = RefinementTask(*sides, small_config(starts_as_identity=False), CPU)
    task.optimizers["refiner"].param_groups[0]["lr"] = float("inf")
    trainer = Trainer(task, tmp_path, Cadence(row_steps=1))
    with pytest.raises(FloatingPointError, match=r"refiner: .* at step 1: lower --lr \(0.01\)"):
        trainer.run()
    assert not trainer.checkpoint_path.exists()


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_factors_of_regions_are_finite_and_not_negative(factor):
    with pytest.raises(ValueError, match="--region-weight"):
        small_config(region_weights=(("hair", factor),))


def test_sides_must_fit(tmp_path, sides):
    small = joint(write_pairs(tmp_path / "small", size=8))
    with pytest.raises(ValueError, match="images of one size, got 16 and 8 pixels"):
        RefinementTask(sides[0], small, small_config(), CPU)
    grey = joint(tmp_path / "b", ("nir",))
    with pytest.raises(ValueError, match=r"same modalities, got \[\['rgb', 'nir'\], \['nir'\]\]"):
        RefinementTask(sides[0], grey, small_config(), CPU)
    with pytest.raises(ValueError, match="--batch must be at most the 4 pairs of --data, got 5"):
        RefinementTask(*sides, small_config(batch=5), CPU)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"kernel": 4}, "--kernel"),
        ({"measure": Measure.FEATURES, "region_weights": (("1", 2.0),)}, "--region-weight"),
    ],
)
def test_bad_options(changes, flag):
    with pytest.raises(ValueError, match=f"{flag} .*got"):
        small_config(**changes)


def test_a_network_goes_with_features(sides):
    with pytest.raises(ValueError, match="--measure=features needs a network"):
        RefinementTask(*sides, small_config(measure=Measure.FEATURES), CPU)
    with pytest.raises(ValueError, match="got --measure=image"):
        RefinementTask(*sides, small_config(), CPU, feature_network=lambda x: x)


def test_a_step_waits_for_a_gpu_only_to_keep_images(sides, monkeypatch):
    with pretend_gpu(monkeypatch) as record:
        task = RefinementTask(*sides, small_config(), CUDA)
        for index in range(task.steps):
            record.clear()
            phase = task.phase_at(index)
            task.update(index)
            assert record.waits.total() <= (phase is not Phase.REFINER_WARMUP)
