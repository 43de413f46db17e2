"""Training of a recogniser: schedule, learning, exact continuation, clear ends."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from biometrics.embedding import load_embedder
from data.pixels import decode_image
from dnnlib.runs import OPTIONS_FILE, find_output
from recognition.augmentation import augment, blur_images
from recognition.face_sets import FaceSet
from recognition.face_sources import open_faces
from recognition.mixup import DomainMixup, IdentityMixup
from recognition.options import AugmentationConfig, HeadConfig, MarginKind, TrainingConfig
from recognition.task import MODEL_FILE, RecognitionTask, rate_at
from tests.helpers.images import write_image, write_pairs
from tests.helpers.interrupting import interrupt_at
from tests.helpers.pretend_gpu import CUDA, pretend_gpu
from tests.recognition.test_mixup import DirectGenerator
from torch_utils.distributed import World
from torch_utils.trainer import CHECKPOINT_FILE, Cadence, train

CPU = torch.device("cpu")


def small(**changes):
    arguments = {
        "backbone": "r18",
        "width": 0.0625,
        "embedding": 8,
        "size": 16,
        "head": HeadConfig(kind=MarginKind.COSFACE, margin=0.1, scale=8.0),
        "augmentation": AugmentationConfig(shift=0.1, light=0.2),
        "epochs": 3,
        "batch": 4,
        "lr": 0.05,
    }
    return TrainingConfig(**{**arguments, **changes})


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
    return FaceSet([open_faces(root)])


def run(faces, config, folder, *, device=CPU, progress=None, **changes):
    """Train in a folder; return the means of the last epoch."""
    task = RecognitionTask(faces, config, device, **changes)
    output = find_output(folder, OPTIONS_FILE, {"a": 1}, fresh=False)
    cadence = Cadence(row_steps=task.steps_per_epoch, checkpoint_minutes=0)
    return train(task, output, cadence, progress=progress)["result"]


def test_schedule():
    config = small(lr=1.0, warmup=0.2)
    rates = [rate_at(step, 20, config) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[12] == pytest.approx(0.25)
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)


def test_it_learns_colours(faces, tmp_path):
    row = run(
        faces,
        small(epochs=30, batch=8, lr=0.1, augmentation=AugmentationConfig()),
        tmp_path / "out",
    )
    assert row["Accuracy/identities"] == 1.0
    embedder = load_embedder(tmp_path / "out" / MODEL_FILE)
    vectors = embedder.embed(torch.stack([faces.image(i) for i in range(8)]))
    cosines = (vectors @ vectors.t()).numpy()
    same = faces.labels[:, None] == faces.labels[None]
    assert cosines[same].min() > cosines[~same].max()


def test_global_random_numbers_play_no_part(faces, tmp_path):
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        run(faces, small(epochs=1), tmp_path / str(seed))
        models.append((tmp_path / str(seed) / MODEL_FILE).read_bytes())
    run(faces, small(epochs=1, seed=5), tmp_path / "other")
    assert models[0] == models[1] != (tmp_path / "other" / MODEL_FILE).read_bytes()


def test_workers_and_memory_change_nothing(faces, tmp_path):
    read = FaceSet([open_faces(tmp_path / "faces")], memory_gib=0)
    run(faces, small(epochs=1), tmp_path / "kept")
    run(read, small(epochs=1), tmp_path / "read", workers=2)
    kept, decoded = (tmp_path / name / MODEL_FILE for name in ("kept", "read"))
    assert kept.read_bytes() == decoded.read_bytes()


def test_joint_images_give_a_backbone_of_four_channels(tmp_path):
    source = open_faces(write_pairs(tmp_path / "pairs"))
    faces = FaceSet([source], ["rgb", "nir"], joint=True)
    run(faces, small(epochs=1), tmp_path / "out")
    embedder = load_embedder(tmp_path / "out" / MODEL_FILE)
    assert embedder.preprocessing.channels == 4
    assert embedder.embed(faces.image(0)[None]).shape == (1, 8)
    with pytest.raises(ValueError, match="takes 4 channels, images have 3"):
        embedder.embed(faces.image(0)[None, :3])


def test_mixups_train_together(faces, tmp_path):
    real = FaceSet([open_faces(write_pairs(tmp_path / "real", size=24))])
    identity = IdentityMixup(
        DirectGenerator(),
        np.eye(4, 3) + 0.1,
        modalities=("rgb",),
        is_joint=False,
        scale=4.0,
        share=0.5,
    )
    mixups = {"domain": DomainMixup(real), "identity_mixup": identity}
    results = [
        run(faces, small(epochs=2), tmp_path / name, **mixups)["Loss/total"] for name in ("a", "b")
    ]
    assert results[0] == results[1]
    centres = RecognitionTask(faces, small(), CPU, **mixups).head.centres
    assert len(centres) == 4 + 2


def test_bfloat16_is_near_float32(faces, tmp_path):
    losses = [
        run(faces, small(epochs=1, precision=precision), tmp_path / precision)["Loss/total"]
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.cuda
def test_half_precision_keeps_its_loss_scale(faces, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(faces, small(precision="fp16"), tmp_path / "out", device=torch.device("cuda"),
            progress=interrupt_at(3))  # fmt: skip
    state = torch.load(tmp_path / "out" / CHECKPOINT_FILE, weights_only=True)
    assert state["task"]["scaler"]["scale"] > 0


def test_both_modalities_are_images_of_the_person(tmp_path):
    faces = FaceSet([open_faces(write_pairs(tmp_path))], ["rgb", "nir"])
    assert len(faces) == 8
    assert faces.identities == ("1", "2")
    assert faces.labels.tolist() == [0, 0, 1, 1] * 2
    nir = decode_image(tmp_path / "NIR/1_1.png", 1)
    assert torch.equal(faces.image(5), torch.from_numpy(nir).expand(3, -1, -1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"batch": 9}, "batch must be at most the 8 images, got 9"),
        ({"backbone": "vgg"}, "--backbone must be one of"),
        ({"size": 20}, "--size must be a multiple of 16"),
        ({"precision": "fp16"}, "--precision=fp16 needs a GPU"),
    ],
)
def test_bad_options(faces, changes, reason):
    with pytest.raises(ValueError, match=reason):
        RecognitionTask(faces, small(**changes), CPU)


def test_batches_and_processes_must_agree(faces):
    with pytest.raises(ValueError, match="batch must be a multiple of the 3 processes, got 4"):
        RecognitionTask(faces, small(), CPU, world=World(size=3))
    with pytest.raises(ValueError, match="--batch must be at least 8, .* got 4"):
        RecognitionTask(faces, small(), CPU, world=World(size=4))


def test_real_images_must_have_the_same_modalities(faces, tmp_path):
    source = open_faces(write_pairs(tmp_path / "pairs"))
    domain = DomainMixup(FaceSet([source], ["nir"]))
    with pytest.raises(ValueError, match="domain mixup: modalities must be .*rgb.*, got .*nir"):
        RecognitionTask(faces, small(), CPU, domain=domain)


class TestAugmentation:
    def images(self):
        return torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def changed(self, **options):
        config = AugmentationConfig(**{"mirror": False, **options})
        return augment(config, self.images(), torch.Generator().manual_seed(1))

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

    def test_blur_is_gaussian(self):
        x = self.images()
        widths = torch.linspace(0, 0.1, 64)
        blurred = blur_images(x, widths, 0.1)
        for i in (0, 30, 63):
            sigma = max(float(widths[i]) * 8, 1e-3)
            expected = gaussian_filter(x[i].numpy(), [0, sigma, sigma], mode="nearest", radius=3)
            np.testing.assert_allclose(blurred[i], expected, atol=1e-5)

    def test_blur_is_limited_and_keeps_constants(self):
        x, y = self.images(), self.changed(blur=0.2)
        assert (y.flatten(2).std(2) <= x.flatten(2).std(2) + 1e-6).all()
        flat = torch.full([2, 3, 8, 8], 0.3)
        torch.testing.assert_close(blur_images(flat, torch.tensor([0.1, 0.2]), 0.2), flat)

    def test_illumination_lights_one_side(self):
        grey = torch.zeros(64, 3, 16, 16)
        augmentation = AugmentationConfig(mirror=False, illumination=0.4)
        y = augment(augmentation, grey, torch.Generator().manual_seed(1))
        assert y.abs().max() <= 1
        assert torch.equal(y[:, 0], y[:, 2])
        slopes = y.diff(dim=3).flatten(1).mean(1)
        assert (slopes > 0).any()
        assert (slopes < 0).any()
        shown = (y + 1) / 2
        centre = shown[:, 0, 7:9, 7:9].mean([1, 2])
        gamma = centre.log() / math.log(0.5)
        assert (gamma.log().abs() <= 0.4 + 1e-4).all()

    def test_processes_share_the_draws(self):
        x = self.images()
        config = AugmentationConfig(shift=0.2, light=0.3, blur=0.1, illumination=0.3)
        whole = augment(config, x, torch.Generator().manual_seed(1))
        for rank in range(2):
            world = World(rank=rank, size=2)
            part = augment(config, world.shard(x), torch.Generator().manual_seed(1), world)
            torch.testing.assert_close(part, whole[rank::2])


def test_a_step_never_waits_for_a_gpu(faces, monkeypatch):
    with pretend_gpu(monkeypatch) as record:
        task = RecognitionTask(faces, small(), CUDA)
        task.begin(0)
        task.step(0)  # the first one sets up what stays
        record.clear()
        task.step(1)
        assert record.waits == {}
