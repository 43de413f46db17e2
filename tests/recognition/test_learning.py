"""Training of a recogniser: schedule, learning, exact continuation, clear ends."""

import itertools

import numpy as np
import pytest
import torch

from data.dataset import PairDataset
from dnnlib.outputs import find_output
from recognition.augmentation import FaceAugmentation
from recognition.embedding import load_embedder
from recognition.face_sets import FaceSet
from recognition.heads import HeadConfig, MarginKind
from recognition.learning import (
    CHECKPOINT_FILE,
    MODEL_FILE,
    RECORD_FILE,
    STATS_FILE,
    Learning,
    LearningConfig,
    learn,
    rate_at,
)
from tests.helpers.images import write_image, write_pairs

CPU = torch.device("cpu")


def small(**changes):
    arguments = {
        "backbone": "r18",
        "width": 0.0625,
        "embedding": 8,
        "size": 16,
        "head": HeadConfig(kind=MarginKind.COSFACE, margin=0.1, scale=8.0),
        "augmentation": FaceAugmentation(shift=0.1, light=0.2),
        "epochs": 3,
        "batch": 4,
        "lr": 0.05,
    }
    return LearningConfig(**{**arguments, **changes})


@pytest.fixture
def faces(tmp_path):
    """Four people of four colours, two images each."""
    root = tmp_path / "faces"
    for person, sample in itertools.product(range(4), range(2)):
        stem = f"{person}_{sample}"
        write_pairs(root, [stem])
        colour = np.array([40 * person + 40, 200 - 50 * person, 90], np.uint8)
        noise = np.random.default_rng(8 * person + sample).integers(0, 30, (16, 16, 3))
        write_image(root / f"VIS/{stem}.png", (colour + noise).astype(np.uint8))
    return FaceSet(PairDataset(root))


def run(faces, config, folder, **changes):
    learning = Learning(faces, config, CPU, **changes)
    output = find_output(folder, RECORD_FILE, {"a": 1}, fresh=False)
    return learn(learning, output, lambda _: None)


def test_schedule():
    config = small(lr=1.0, warmup=0.2)
    rates = [rate_at(step, 20, config) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[12] == pytest.approx(0.25)
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)


def test_it_learns_colours(faces, tmp_path):
    row = run(
        faces, small(epochs=60, batch=8, lr=0.1, augmentation=FaceAugmentation()), tmp_path / "out"
    )
    assert row["accuracy"] == 1.0
    embedder = load_embedder(tmp_path / "out" / MODEL_FILE)
    vectors = embedder.embed(torch.stack([faces[i][0] for i in range(8)]))
    cosines = (vectors @ vectors.t()).numpy()
    same = faces.labels[:, None] == faces.labels[None]
    assert cosines[same].min() > cosines[~same].max()


def test_interrupted_run_ends_with_the_same_bytes(faces, tmp_path):
    run(faces, small(), tmp_path / "whole")
    calls = itertools.count()

    def interrupt(_):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        run(faces, small(), tmp_path / "cut", evaluate=interrupt)
    assert (tmp_path / "cut" / CHECKPOINT_FILE).exists()
    run(faces, small(), tmp_path / "cut")
    whole, cut = (tmp_path / name / MODEL_FILE for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()
    assert len((tmp_path / "cut" / STATS_FILE).read_text().splitlines()) == 3
    assert not (tmp_path / "cut" / CHECKPOINT_FILE).exists()


def test_global_random_numbers_play_no_part(faces, tmp_path):
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        run(faces, small(epochs=1), tmp_path / str(seed))
        models.append((tmp_path / str(seed) / MODEL_FILE).read_bytes())
    run(faces, small(epochs=1, seed=5), tmp_path / "other")
    assert models[0] == models[1] != (tmp_path / "other" / MODEL_FILE).read_bytes()


def test_evaluation_of_each_epoch(faces, tmp_path):
    row = run(faces, small(), tmp_path / "out", evaluate=lambda model: {"width": model.width})
    assert row["width"] == 8


def test_diverging_loss_keeps_the_checkpoint(faces, tmp_path):
    learning = Learning(faces, small(), CPU)
    output = find_output(tmp_path / "out", RECORD_FILE, {}, fresh=False)
    ends = itertools.count()

    def break_it(_):
        if next(ends) == 1:
            learning.head.centres.data.fill_(float("inf"))
        return {}

    learning.evaluate = break_it
    with pytest.raises(FloatingPointError, match="loss is nan at step 6: lower lr"):
        learn(learning, output, lambda _: None)
    state = torch.load(output.path / CHECKPOINT_FILE, weights_only=True)
    assert state["step"] == 4


def test_both_modalities_are_images_of_the_person(tmp_path):
    pairs = PairDataset(write_pairs(tmp_path))
    faces = FaceSet(pairs, ["rgb", "nir"])
    assert len(faces) == 8
    assert faces.people == ("1", "2")
    assert faces.labels.tolist() == [0, 0, 1, 1] * 2
    assert torch.equal(faces[5][0], pairs[1]["nir"].expand(3, -1, -1))
    assert faces[6][1] == 1


def test_people_and_modalities_are_checked(tmp_path):
    pairs = PairDataset(write_pairs(tmp_path, ["1_0", "1_1"]))
    with pytest.raises(ValueError, match="at least 2 people, got 1"):
        FaceSet(pairs)
    with pytest.raises(ValueError, match=r"among \['rgb', 'nir'\], got \['x'\]"):
        FaceSet(pairs, ["x"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"batch": 9}, "batch must be at most the 8 images, got 9"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be more than 0"),
        ({"dropout": 1.0}, "dropout and warmup must be"),
        ({"backbone": "vgg"}, "backbone must be one of"),
        ({"size": 20}, "multiple of 16"),
    ],
)
def test_bad_options(faces, changes, reason):
    with pytest.raises(ValueError, match=reason):
        Learning(faces, small(**changes), CPU)


class TestAugmentation:
    def images(self):
        return torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def changed(self, **options):
        augmentation = FaceAugmentation(**{"mirror": False, **options})
        return augmentation(self.images(), torch.Generator().manual_seed(1))

    def test_nothing(self):
        assert torch.equal(self.changed(), self.images())

    def test_half_are_mirrored(self):
        x, y = self.images(), self.changed(mirror=True)
        is_same = (x == y).flatten(1).all(1)
        assert 16 < is_same.sum() < 48
        assert torch.equal(y[~is_same], x[~is_same].flip(3))

    def test_shifts_repeat_edges(self):
        x, y = self.images(), self.changed(shift=0.25)
        padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
        found = set()
        for i in range(64):
            places = [
                (dx, dy)
                for dx, dy in itertools.product(range(5), range(5))
                if torch.equal(padded[i, :, dy : dy + 8, dx : dx + 8], y[i])
            ]
            assert places
            found.add(places[0])
        assert len(found) > 10

    def test_light_is_linear_and_limited(self):
        x, y = self.images(), self.changed(light=0.3)
        assert y.abs().max() <= 1
        inside = (y.abs() < 1).all(1)[0]
        slope = (y[0, 0][inside].diff() / x[0, 0][inside].diff()).median()
        assert 0.7 <= slope <= 1.3
        assert not torch.equal(x, y)
