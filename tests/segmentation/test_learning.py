"""Training: it learns, continues to the same bytes, keeps the best, and ends clearly."""

import json
import math

import pytest
import torch

from data.class_list import class_list_from_json
from dnnlib.outputs import find_output
from segmentation.augmentation import MaskAugmentation
from segmentation.labelled_files import open_source, wanted_modalities
from segmentation.labelled_set import LabelledSet, UncertaintyKind
from segmentation.learning import (
    BEST_FILE,
    CHECKPOINT_FILE,
    MODEL_FILE,
    RECORD_FILE,
    STATS_FILE,
    Learning,
    LearningConfig,
    LossConfig,
    OptimizerKind,
    Precision,
    learn,
    rate_at,
)
from segmentation.losses import ClassWeighting
from segmentation.model_files import load_segmenter, predicted_masks, save_segmenter
from segmentation.networks import NetworkConfig, NetworkKind
from tests.helpers.labelled import CLASSES, write_generated

CPU = torch.device("cpu")
LIST = class_list_from_json(CLASSES, "classes")
RGB = wanted_modalities(["rgb"])
NETWORK = NetworkConfig(channels=3, classes=3, width=4, depth=2)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = write_generated(tmp_path_factory.mktemp("data") / "samples", count=8)
    return LabelledSet([open_source(folder, RGB)], LIST, uncertainty=UncertaintyKind.PIXEL)


def config(**options):
    defaults = {
        "network": NETWORK,
        "augmentation": MaskAugmentation(mirror=False),  # which would swap what colours tell apart
        "steps": 12,
        "every": 4,
        "batch": 4,
        "lr": 1e-2,
    }
    return LearningConfig(**{**defaults, **options})


def opened(path):
    return find_output(path, RECORD_FILE, {"test": 1}, fresh=False)


def nothing(_):
    pass


class Watcher:
    """Judges by a list of given numbers."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def watch(self, segmenter):
        return {"val_mean_iou": next(self.numbers)}

    def conclude(self, segmenter, folder):
        return {"folder": folder.name}


def test_colours_are_learned(labelled, tmp_path):
    learning = Learning(labelled, config(steps=60, every=30), device=CPU)
    learn(learning, opened(tmp_path / "out"), nothing)
    pairs = list(predicted_masks(learning.segmenter, labelled))
    right = sum((truth == found).mean() for truth, found in pairs) / len(pairs)
    assert right > 0.95
    assert learning.rows[-1]["loss"] < 0.5 * learning.rows[0]["loss"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kill_at", [1, 6, 11])
@pytest.mark.parametrize("optimizer", list(OptimizerKind))
def test_a_killed_training_continues_to_the_same_bytes(labelled, tmp_path, kill_at, optimizer):
    options = config(
        optimizer=optimizer,
        augmentation=MaskAugmentation(shift=0.1, scale=0.1, light=0.2),
        loss=LossConfig(uncertainty=UncertaintyKind.PIXEL, dice=0.5),
    )
    learn(Learning(labelled, options, device=CPU), opened(tmp_path / "whole"), nothing)
    seen = []

    def kill(count):
        seen.append(count)
        if len(seen) == kill_at:
            raise Killed

    with pytest.raises(Killed):
        learn(Learning(labelled, options, device=CPU), opened(tmp_path / "torn"), kill)
    assert not (tmp_path / "torn" / MODEL_FILE).exists()
    learn(Learning(labelled, options, device=CPU), opened(tmp_path / "torn"), nothing)
    whole, torn = (tmp_path / name / MODEL_FILE for name in ("whole", "torn"))
    assert whole.read_bytes() == torn.read_bytes()
    rows = [
        [json.loads(line) for line in (path.parent / STATS_FILE).read_text().splitlines()]
        for path in (whole, torn)
    ]
    assert [row | {"seconds": 0} for row in rows[0]] == [row | {"seconds": 0} for row in rows[1]]
    assert not (tmp_path / "torn" / CHECKPOINT_FILE).exists()
    assert opened(tmp_path / "torn").is_finished


def test_another_seed_is_another_network(labelled, tmp_path):
    for seed in (0, 1):
        learning = Learning(labelled, config(steps=2, seed=seed), device=CPU)
        learn(learning, opened(tmp_path / str(seed)), nothing)
    first, second = ((tmp_path / name / MODEL_FILE).read_bytes() for name in "01")
    assert first != second


def test_the_best_weights_are_kept_beside_the_last(labelled, tmp_path):
    learning = Learning(
        labelled, config(), device=CPU, judge=Watcher([0.5, 0.8, 0.8]), choose_by="val_mean_iou"
    )
    output = opened(tmp_path / "out")
    states = []

    def remember(_):
        if learning.step % 4 == 0:
            states.append(
                {k: v.clone() for k, v in learning.segmenter.network.state_dict().items()}
            )

    assert learn(learning, output, remember) == {"folder": "out"}
    best = load_segmenter(output.path / BEST_FILE, CPU).network.state_dict()
    assert all(torch.equal(best[name], states[1][name]) for name in best)
    last = load_segmenter(output.path / MODEL_FILE, CPU).network.state_dict()
    assert all(torch.equal(last[name], states[2][name]) for name in last)
    record = json.loads((output.path / RECORD_FILE).read_text())
    assert record["last"]["val_mean_iou"] == 0.8


def test_a_diverging_loss_ends_clearly_and_keeps_the_checkpoint(labelled, tmp_path):
    learning = Learning(labelled, config(optimizer=OptimizerKind.SGD), device=CPU)

    def spoil(_):
        if learning.step == 6:
            with torch.no_grad():
                learning.segmenter.network.head.bias.fill_(math.nan)

    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 8: lower lr \(0\.01\)"):
        learn(learning, opened(tmp_path / "out"), spoil)
    again = Learning(labelled, config(optimizer=OptimizerKind.SGD), device=CPU)
    learn(again, opened(tmp_path / "out"), nothing)
    assert [row["step"] for row in again.rows] == [4, 8, 12]


def test_half_precision_of_the_cpu_comes_near(labelled, tmp_path):
    losses = []
    for precision in (Precision.FP32, Precision.BF16):
        learning = Learning(labelled, config(precision=precision), device=CPU)
        learn(learning, opened(tmp_path / precision.value), nothing)
        losses.append(learning.rows[-1]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert losses[0] != losses[1]
    with pytest.raises(ValueError, match="--precision=fp16 needs a GPU"):
        Learning(labelled, config(precision=Precision.FP16), device=CPU)


@pytest.mark.cuda
@pytest.mark.parametrize("precision", list(Precision))
def test_a_gpu_learns_the_same_colours(labelled, tmp_path, precision):
    learning = Learning(
        labelled, config(steps=60, every=30, precision=precision), device=torch.device("cuda")
    )
    learn(learning, opened(tmp_path / "out"), nothing)
    pairs = list(predicted_masks(learning.segmenter, labelled))
    assert sum((truth == found).mean() for truth, found in pairs) / len(pairs) > 0.95


@pytest.mark.cuda
def test_a_continued_gpu_training_counts_steps_on_the_cpu(labelled, tmp_path):
    first, second = (
        Learning(labelled, config(optimizer=OptimizerKind.ADAMW), device=torch.device("cuda"))
        for _ in range(2)
    )
    first._run_step()
    first._save(tmp_path / CHECKPOINT_FILE)
    second._load(tmp_path / CHECKPOINT_FILE)
    # Elsewhere AdamW would wait for the GPU once a tensor in every step.
    assert {entry["step"].device.type for entry in second._optimizer.state.values()} == {"cpu"}
    assert second._run_step().isfinite().all()


def test_class_weights_reach_the_loss(labelled):
    first = []
    for loss in (
        LossConfig(),
        LossConfig(weighting=ClassWeighting.INVERSE),
        LossConfig(factors=(1, 0, 0)),
    ):
        learning = Learning(labelled, config(loss=loss), device=CPU)
        first.append(learning._run_step()[0].item())
    assert len(set(first)) == 3


def test_uncertainty_reaches_the_loss(labelled):
    first = []
    for strength in (0.0, 5.0):
        learning = Learning(labelled, config(loss=LossConfig(strength=strength)), device=CPU)
        first.append(learning._run_step()[0].item())
    assert first[0] != first[1]


def test_deeplab_takes_a_step(labelled, tmp_path):
    network = NetworkConfig(kind=NetworkKind.DEEPLABV3_MOBILENET, channels=3, classes=3)
    learning = Learning(labelled, config(network=network, steps=1, every=1, batch=2), device=CPU)
    learn(learning, opened(tmp_path / "out"), nothing)
    assert math.isfinite(learning.rows[-1]["loss"])


def test_the_rate_falls_to_nothing():
    rates = [rate_at(step, config(steps=10)) for step in range(10)]
    assert rates[0] == 1e-2
    assert rates[5] == pytest.approx(1e-2 * 0.5**0.9)
    assert sorted(rates, reverse=True) == rates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": 1}, "batch must be at least 2, got 1"),
        ({"lr": 0.0}, "lr must be more than 0"),
        ({"lr": math.nan}, "lr must be more than 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": (1.0, -1.0)}, "class weights must be at least 0"),
        ({"factors": (0.0, 0.0)}, "at least one must be more than 0"),
        ({"factors": (1.0,), "weighting": ClassWeighting.MEDIAN}, "not both"),
        ({"strength": -1.0}, "strength and dice must be at least 0"),
    ],
)
def test_bad_losses_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LossConfig(**options)


def test_what_does_not_fit_is_refused(labelled):
    with pytest.raises(ValueError, match="--class-weights: 3 numbers are needed, got 2"):
        Learning(labelled, config(loss=LossConfig(factors=(1, 2))), device=CPU)
    with pytest.raises(ValueError, match="takes 4 channels, the images have 3"):
        Learning(labelled, config(network=NetworkConfig(channels=4, classes=3)), device=CPU)
    with pytest.raises(ValueError, match="--network=unet: images must measure at least 32 pixels"):
        Learning(labelled, config(network=NetworkConfig(classes=3, depth=5)), device=CPU)


# Model files


def trained(labelled):
    return Learning(labelled, config(), device=CPU).segmenter


def test_a_saved_network_gives_the_same_masks(labelled, tmp_path):
    segmenter = trained(labelled)
    save_segmenter(tmp_path / "s.pth", segmenter)
    again = load_segmenter(tmp_path / "s.pth", CPU)
    assert (again.classes.names, again.modalities, again.side) == (LIST.names, RGB, None)
    for one, other in zip(
        predicted_masks(segmenter, labelled), predicted_masks(again, labelled), strict=True
    ):
        assert (one[1] == other[1]).all()


def test_a_mask_does_not_depend_on_the_others(labelled):
    segmenter = trained(labelled)
    images = torch.stack([labelled[k].image for k in range(8)]).repeat(5, 1, 1, 1)
    together = segmenter.predict(images)
    assert together.shape == (40, 16, 16)
    for k in (0, 33):
        assert torch.equal(segmenter.predict(images[k : k + 1])[0], together[k])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": "other"}, "not a segmentation network"),
        ({"format": "biface-segmenter", "version": 1}, "does not fit together: 'network'"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "s.pth")
    with pytest.raises(ValueError, match=rf"s\.pth: .*{message}"):
        load_segmenter(tmp_path / "s.pth", CPU)


def test_damaged_weights_are_refused(labelled, tmp_path):
    segmenter = trained(labelled)
    with torch.no_grad():
        segmenter.network.head.bias.fill_(math.inf)
    save_segmenter(tmp_path / "s.pth", segmenter)
    with pytest.raises(ValueError, match="weights must be finite"):
        load_segmenter(tmp_path / "s.pth", CPU)
    (tmp_path / "s.pth").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"s\.pth: not a readable checkpoint"):
        load_segmenter(tmp_path / "s.pth", CPU)
