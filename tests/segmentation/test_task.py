"""Training: it learns, continues to the same bytes, keeps the best, and ends clearly."""

import json
import math

import pytest
import torch

from data.class_list import class_list_from_json
from data.modalities import choose_modalities
from dnnlib.runs import OPTIONS_FILE, find_output
from segmentation.evaluation import predicted_masks
from segmentation.labelled_files import open_source
from segmentation.labelled_set import LabelledSet
from segmentation.model_files import load_segmenter, save_segmenter
from segmentation.options import (
    AugmentationConfig,
    LossConfig,
    NetworkConfig,
    NetworkKind,
    OptimizerKind,
    TrainingConfig,
    UncertaintyKind,
)
from segmentation.task import (
    BEST_FILE,
    MODEL_FILE,
    SegmentationTask,
    rate_at,
)
from tests.helpers.interrupting import interrupt_at
from tests.helpers.labelled import CLASSES, write_generated
from tests.helpers.pretend_gpu import CUDA, pretend_gpu
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.trainer import CHECKPOINT_FILE, STATS_FILE, Cadence, train

CPU = torch.device("cpu")
LIST = class_list_from_json(CLASSES, "classes")
RGB = choose_modalities(["rgb"])
NETWORK = NetworkConfig(channels=3, classes=3, width=4, depth=2)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = write_generated(tmp_path_factory.mktemp("data") / "samples", count=8)
    labelled = LabelledSet([open_source(folder, RGB)], LIST, uncertainty=UncertaintyKind.PIXEL)
    labelled.verify()
    return labelled


def config(**options):
    defaults = {
        "network": NETWORK,
        "augmentation": AugmentationConfig(
            mirror=False
        ),  # which would swap what colours tell apart
        "steps": 12,
        "every": 4,
        "batch": 4,
        "lr": 1e-2,
    }
    return TrainingConfig(**{**defaults, **options})


def opened(path):
    return find_output(path, OPTIONS_FILE, {"test": 1}, fresh=False)


def run(path, labelled, options, device=CPU, progress=None, **more):
    """Train in a folder; return the task and the folder's record."""
    task = SegmentationTask(labelled, options, device=device, **more)
    cadence = Cadence(row_steps=options.every, checkpoint_minutes=0)
    return task, train(task, opened(path), cadence, progress=progress)


def losses_of(path):
    lines = (path / STATS_FILE).read_text().splitlines()
    return [json.loads(line)["Loss/total"]["mean"] for line in lines]


def test_colours_are_learned(labelled, tmp_path):
    task, _ = run(tmp_path / "out", labelled, config(steps=60, every=30))
    pairs = list(predicted_masks(task.segmenter, labelled))
    right = sum((truth == found).mean() for truth, found in pairs) / len(pairs)
    assert right > 0.95
    first, last = losses_of(tmp_path / "out")
    assert last < 0.5 * first


def test_a_killed_training_continues_to_the_same_bytes(labelled, tmp_path):
    """AdamW's does in tests/integration/test_stop_and_continue.py."""
    options = config(
        optimizer=OptimizerKind.SGD,
        augmentation=AugmentationConfig(shift=0.1, scale=0.1, light=0.2),
        loss=LossConfig(uncertainty=UncertaintyKind.PIXEL, dice=0.5),
    )
    run(tmp_path / "whole", labelled, options)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "torn", labelled, options, progress=interrupt_at(6))
    assert not (tmp_path / "torn" / MODEL_FILE).exists()
    run(tmp_path / "torn", labelled, options)
    whole, torn = (tmp_path / name / MODEL_FILE for name in ("whole", "torn"))
    assert whole.read_bytes() == torn.read_bytes()
    assert losses_of(tmp_path / "whole") == losses_of(tmp_path / "torn")


def test_another_seed_is_another_network(labelled, tmp_path):
    for seed in (0, 1):
        run(tmp_path / str(seed), labelled, config(steps=2, seed=seed))
    first, second = ((tmp_path / name / MODEL_FILE).read_bytes() for name in "01")
    assert first != second


def test_the_best_weights_are_kept_beside_the_last(labelled, tmp_path, monkeypatch):
    ious, states = iter([0.5, 0.8, 0.8]), []

    def count(segmenter, _labelled):
        state = segmenter.network.state_dict()
        states.append({name: tensor.clone() for name, tensor in state.items()})
        number = {"value": next(ious)}
        return {"mean_iou": number, "pixel_accuracy": number, "classes": []}

    monkeypatch.setattr("segmentation.task.count_masks", count)
    output = tmp_path / "out"
    _, record = run(output, labelled, config(), measured={"val": labelled})
    best = load_segmenter(output / BEST_FILE, CPU).network.state_dict()
    assert all(torch.equal(best[name], states[1][name]) for name in best)
    last = load_segmenter(output / MODEL_FILE, CPU).network.state_dict()
    assert all(torch.equal(last[name], states[2][name]) for name in last)
    assert record["result"]["Metrics/val_mean_iou"] == 0.8
    assert set(record["test"]) == {"last", "best"}


def test_half_precision_of_the_cpu_comes_near(labelled, tmp_path):
    losses = []
    for precision in ("fp32", "bf16"):
        run(tmp_path / precision, labelled, config(precision=precision))
        losses.append(losses_of(tmp_path / precision)[-1])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    assert losses[0] != losses[1]
    with pytest.raises(ValueError, match="--precision=fp16 needs a GPU"):
        SegmentationTask(labelled, config(precision="fp16"), device=CPU)


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_a_gpu_learns_the_same_colours(labelled, tmp_path, precision):
    options = config(steps=60, every=30, precision=precision)
    task, _ = run(tmp_path / "out", labelled, options, torch.device("cuda"))
    pairs = list(predicted_masks(task.segmenter, labelled))
    assert sum((truth == found).mean() for truth, found in pairs) / len(pairs) > 0.95


@pytest.mark.cuda
def test_a_continued_gpu_training_counts_steps_on_the_cpu(labelled, tmp_path):
    options = config(optimizer=OptimizerKind.ADAMW)
    first, second = (
        SegmentationTask(labelled, options, device=torch.device("cuda")) for _ in range(2)
    )
    first.step(0)
    save_checkpoint(tmp_path / CHECKPOINT_FILE, first.state_dict())
    second.load_state_dict(load_checkpoint(tmp_path / CHECKPOINT_FILE, CPU))
    # Elsewhere AdamW would wait for the GPU once a tensor in every step.
    assert {entry["step"].device.type for entry in second.optimizer.state.values()} == {"cpu"}
    second.step(1)
    second.check(2)


def first_loss(labelled, loss):
    task = SegmentationTask(labelled, config(loss=loss), device=CPU)
    task.step(0)
    return task.statistics.summary()["Loss/total"]["mean"]


def test_class_weights_reach_the_loss(labelled):
    plain = LossConfig()
    inverse, only = LossConfig(class_weights="inverse"), LossConfig(class_weights="1,0,0")
    assert len({first_loss(labelled, loss) for loss in (plain, inverse, only)}) == 3


def test_uncertainty_reaches_the_loss(labelled):
    assert len({first_loss(labelled, LossConfig(strength=k)) for k in (0.0, 5.0)}) == 2


def test_deeplab_takes_a_step(labelled, tmp_path):
    network = NetworkConfig(kind=NetworkKind.DEEPLABV3_MOBILENET, channels=3, classes=3)
    run(tmp_path / "out", labelled, config(network=network, steps=1, every=1, batch=2))
    assert math.isfinite(losses_of(tmp_path / "out")[-1])


def test_the_rate_falls_to_nothing():
    rates = [rate_at(step, config(steps=10)) for step in range(10)]
    assert rates[0] == 1e-2
    assert rates[5] == pytest.approx(1e-2 * 0.5**0.9)
    assert sorted(rates, reverse=True) == rates


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"class_weights": "1,-1"}, "--class-weights"),
        ({"class_weights": "0,0"}, "--class-weights"),
        ({"class_weights": "1,x"}, "--class-weights"),
    ],
)
def test_bad_losses_are_refused(options, flag):
    with pytest.raises(ValueError, match=flag):
        LossConfig(**options)


def test_what_does_not_fit_is_refused(labelled):
    with pytest.raises(ValueError, match="--class-weights: 3 numbers are needed, got 2"):
        SegmentationTask(labelled, config(loss=LossConfig(class_weights="1,2")), device=CPU)
    with pytest.raises(ValueError, match="takes 4 channels, the images have 3"):
        SegmentationTask(labelled, config(network=NetworkConfig(channels=4, classes=3)), device=CPU)
    with pytest.raises(ValueError, match="--network=unet: images must measure at least 32 pixels"):
        SegmentationTask(labelled, config(network=NetworkConfig(classes=3, depth=5)), device=CPU)


# Model files


def trained(labelled):
    return SegmentationTask(labelled, config(), device=CPU).segmenter


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
        ({"format": "other"}, "not a biface-segmenter of version 1"),
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


def test_a_step_never_waits_for_a_gpu(labelled, monkeypatch):
    with pretend_gpu(monkeypatch) as record:
        changed = AugmentationConfig(mirror=True, shift=0.1, scale=0.1, light=0.1)
        task = SegmentationTask(labelled, config(augmentation=changed), device=CUDA)
        task.step(0)
        record.clear()
        task.step(1)
        assert record.waits == {}
