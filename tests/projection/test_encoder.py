"""The encoder: what its training draws, that it learns, and whose folder it takes."""

import pytest
import torch

from networks.sampling import IndexedSampler
from projection import encoder
from projection.encoder import EncoderTask, open_encoder
from projection.options import EncoderConfig
from tests.helpers.interpreters import small_generator
from tests.helpers.interrupting import interrupt_at

CONFIG = EncoderConfig(encoder_steps=4, batch=4, width=4, most=8)


def small_sampler(seed=0):
    generator = small_generator(seed)
    with torch.no_grad():  # mean and spread of w as of trained networks
        generator.mapping.fc1.weight.mul_(1000)
    return IndexedSampler(generator, None, name="net")


@pytest.fixture(scope="module")
def sampler():
    return small_sampler()


def test_the_latents_are_learned(sampler):
    config = EncoderConfig(encoder_steps=32, batch=8, width=8, most=16, rate=1e-2)
    task = EncoderTask(sampler, ["rgb", "nir"], config)
    task.begin(0)
    means = []
    for start in (0, 8, 16, 24):
        for index in range(start, start + 8):
            task.step(index)
        means.append(task.statistics.summary()["Loss/latents"]["mean"])
        task.statistics.reset()
    assert means[-1] < 0.95 * means[0]


def test_a_batch_in_parts_is_the_batch(sampler, monkeypatch):
    weights = []
    for part in (4, 3):
        monkeypatch.setattr(encoder, "projection_batch", lambda _, part=part: part)
        task = EncoderTask(sampler, ["rgb", "nir"], CONFIG)
        task.begin(0)
        task._optimizer = torch.optim.SGD(task.encoder.parameters(), lr=1.0)
        task._schedule = torch.optim.lr_scheduler.ConstantLR(task._optimizer, 1.0)
        task.step(0)
        weights.append(task.encoder.layers[-1].weight.detach().clone())
    assert weights[0].abs().max() > 1e-3
    torch.testing.assert_close(*weights)


def test_some_samples_have_two_styles(sampler):
    ws = EncoderTask(sampler, ["rgb"], EncoderConfig(batch=32))._draw(0)
    changes = (ws.diff(dim=1) != 0).any(dim=2).sum(dim=1)
    assert set(changes.tolist()) == {0, 1}


def test_a_killed_training_continues_to_the_same_answers(sampler, tmp_path):
    images = torch.zeros([1, 1, 16, 16])

    def answer(folder):
        opened = open_encoder(tmp_path / folder, sampler, ["nir"], CONFIG)
        return opened.load(lambda *_: lambda _: None)(images)

    with pytest.raises(KeyboardInterrupt):
        open_encoder(tmp_path / "torn", sampler, ["nir"], CONFIG).load(interrupt_at(2))
    assert torch.equal(answer("torn"), answer("whole"))
    written = (tmp_path / "torn/encoder.pt").read_bytes()
    assert torch.equal(answer("torn"), answer("whole"))
    assert (tmp_path / "torn/encoder.pt").read_bytes() == written
    for changed in (small_sampler(1), ["rgb"]):
        other = changed if isinstance(changed, IndexedSampler) else sampler
        fitted = changed if isinstance(changed, list) else ["nir"]
        with pytest.raises(ValueError, match="--encoder"):
            open_encoder(tmp_path / "torn", other, fitted, CONFIG)


def test_a_damaged_file_is_named(sampler, tmp_path):
    open_encoder(tmp_path, sampler, ["nir"], CONFIG).load(lambda *_: lambda _: None)
    (tmp_path / "encoder.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"encoder\.pt"):
        open_encoder(tmp_path, sampler, ["nir"], CONFIG).load(None)
