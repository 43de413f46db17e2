"""The embedding path: what preprocessing does, and what never changes a vector."""

import numpy as np
import pytest
import torch
from torch import nn

from biometrics.backbones import build_backbone, named_backbone, state_of
from biometrics.embedding import (
    Embedder,
    Preprocessing,
    embed_samples,
    load_embedder,
    preprocess,
)
from metrics import NotMeasuredError
from tests.biometrics.test_backbones import randomised, tiny
from tests.helpers.pretend_gpu import CUDA, pretend_gpu


class Pixels(nn.Module):
    """The pixels themselves."""

    def forward(self, x):
        return x.flatten(1)


def embedder(backbone=None, size=16, channels=3, **changes):
    arguments = {"hash": "h", "width": channels * size**2, "device": torch.device("cpu")}
    return Embedder(
        backbone or Pixels(),
        Preprocessing(size=size, channels=channels, flip=changes.pop("flip", False)),
        **{**arguments, **changes},
    )


def images(count, channels=3, size=16, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, [count, channels, size, size], generator=random, dtype=torch.uint8)


def network():
    return randomised(build_backbone(tiny())).eval()


def test_pixels_and_length():
    x = images(3)
    expected = nn.functional.normalize((x.float() / 127.5 - 1).flatten(1))
    torch.testing.assert_close(embedder().embed(x), expected)


@pytest.mark.parametrize("count", [0, 1, 7, 32, 33, 70])
def test_number_of_images_changes_no_bit(count):
    model = embedder(network(), size=32, width=16)
    x = images(70, size=20)
    whole = model.embed(x)
    part = model.embed(x[:count])
    assert part.shape == (count, 16)
    assert torch.equal(part, whole[:count])
    one_by_one = [model.embed(x[i : i + 1]) for i in range(0, 70, 23)]
    assert torch.equal(torch.cat(one_by_one), whole[::23])


def test_sizes_may_differ():
    model = embedder(network(), size=32, width=16)
    small, large = images(40, size=20), images(40, size=45, seed=1)
    mixed = (image for pair in zip(small, large, strict=True) for image in pair)
    found = model.embed(mixed)
    assert torch.equal(found[0::2], model.embed(small))
    assert torch.equal(found[1::2], model.embed(large))


class Damaged:
    """Seven samples of different sizes, of which some are damaged."""

    def __init__(self, *damaged):
        self.damaged, self.images = damaged, images(7, size=32)

    def __len__(self):
        return 7

    def image(self, _modality, index):
        if index in self.damaged:
            raise ValueError(f"image {index} is damaged")
        return self.images[index][:, : 32 - index].numpy()


@pytest.mark.parametrize("batch", [1, 3, 128])
def test_samples_that_cannot_be_read_or_aligned_are_failures(batch):
    samples, done, told = Damaged(0, 4), [], []
    model = embedder(aligner=lambda image: "no face" if len(image) == 31 else image)
    found = embed_samples(
        samples,
        "rgb",
        model.embed_aligned,
        model.width,
        align=model.align,
        batch=batch,
        progress=done.append,
        on_failure=lambda failures: told.append(len(failures)),
    )
    assert found.failures == {0: "image 0 is damaged", 1: "no face", 4: "image 4 is damaged"}
    whole = embedder().embed(torch.from_numpy(samples.image("rgb", i)) for i in (2, 3, 5, 6))
    assert found.is_enrolled.nonzero()[0].tolist() == [2, 3, 5, 6]
    assert np.array_equal(found.vectors[found.is_enrolled], whole.numpy())
    assert (sum(done), told) == (7, [1, 2, 3])


def test_what_embed_samples_refuses():
    nothing = Damaged(*range(7))
    with pytest.raises(NotMeasuredError, match="none of 7 images could be read.*0 is damaged"):
        embed_samples(nothing, "rgb", embedder().embed, 768)
    with pytest.raises(RuntimeError, match="at the first"):
        embed_samples(nothing, "rgb", embedder().embed, 768, on_failure=stop)


def stop(failures):
    raise RuntimeError(f"stopped at the first: {failures}")


def test_flip_averages():
    x = images(2)
    plain, mirrored = embedder(network(), size=32, width=16), images(2).flip(3)
    expected = plain.backbone(preprocess(x, plain.preprocessing))
    expected = expected + plain.backbone(preprocess(mirrored, plain.preprocessing))
    both = embedder(network(), size=32, width=16, flip=True)
    torch.testing.assert_close(both.embed(x), nn.functional.normalize(expected))
    torch.testing.assert_close(both.embed(mirrored), both.embed(x))


def test_gradients_reach_images_that_are_embedded_as_bytes_are():
    model = embedder(network(), size=32, width=16, flip=True, centre=torch.full([16], 0.1))
    pixels = images(3)
    pixels[0, :, 0] = 255
    floats = (pixels.float() / 127.5 - 1).requires_grad_()
    found = model.embed_float(floats + (pixels == 255))  # what is too bright is saved as 255
    torch.testing.assert_close(found, model.embed(pixels), rtol=1e-4, atol=1e-5)
    found[:, 0].sum().backward()
    assert (floats.grad.flatten(1).abs().amax(1) > 0).all()
    assert floats.grad[0, :, 0].abs().max() == 0


def test_grey_is_repeated():
    grey = images(2, channels=1)
    torch.testing.assert_close(embedder().embed(grey), embedder().embed(grey.expand(-1, 3, -1, -1)))


def test_luma_of_colour():
    colour = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 16, 16)[None]
    seen = preprocess(colour, Preprocessing(size=16, channels=1))
    assert seen[0, 0, 0, 0].item() == pytest.approx(2 * 0.299 - 1, abs=1e-6)


def test_resizing_does_not_alias():
    stripes = torch.zeros([1, 3, 64, 64], dtype=torch.uint8)
    stripes[..., ::2] = 255
    seen = preprocess(stripes, Preprocessing(size=16))
    assert seen[..., 2:-2].abs().max() < 0.05


@pytest.mark.parametrize("bad", [torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_wrong_images(bad):
    with pytest.raises(ValueError, match=r"\[N, C, H, W\] uint8, got"):
        embedder().embed(bad)


def test_wrong_channels():
    with pytest.raises(ValueError, match="takes 4 channels, images have 3"):
        embedder(channels=4).embed(images(1))


@pytest.mark.parametrize("number", [0.0, float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("centre", [None, torch.full([4], 0.1)])
def test_embeddings_without_direction(number, centre):
    class Same(nn.Module):
        def forward(self, x):
            return x.new_full([len(x), 4], number)

    with pytest.raises(ValueError, match="zero or not finite"):
        embedder(Same(), width=4, centre=centre).embed(images(2))


def test_load(tmp_path):
    config = named_backbone("r18", width=0.125, embedding=8, size=32, in_channels=1)
    file = tmp_path / "x.pth"
    torch.save(state_of(randomised(build_backbone(config)), config), file)
    model = load_embedder(file, flip=True)
    assert model.preprocessing == Preprocessing(size=32, channels=1, flip=True)
    assert model.width == 8
    assert len(model.hash) == 64
    assert model.embed(images(2)).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)


class TestAlignment:
    """An aligner that finds a face where the first pixel is not black, and takes a corner."""

    @staticmethod
    def aligner(image):
        return image[4:36, 4:36] if image[0, 0, 0] else "no face"

    def model(self, **changes):
        return embedder(network(), size=32, width=16, aligner=self.aligner, **changes)

    def faces(self):
        x = images(3, size=40).clamp_min(1)
        x[1, :, 0, 0] = 0
        return x

    def test_faces_are_moved_and_others_taken_as_they_are(self):
        plain, x = embedder(network(), size=32, width=16), self.faces()
        found = self.model().embed(x)
        assert torch.equal(found[[0, 2]], plain.embed(x[[0, 2], :, 4:36, 4:36]))
        torch.testing.assert_close(found[[1]], plain.embed(x[[1]]), rtol=0, atol=0.02)

    def test_aligned_images_are_not_aligned_again(self):
        x = self.faces()
        middle = x[[0, 2], :, 4:36, 4:36]
        assert torch.equal(self.model().embed_aligned(middle), self.model().embed(x)[[0, 2]])

    def test_reason_of_an_image_without_face(self):
        model, x = self.model(), self.faces()
        assert model.align(x[1]) == "no face"
        assert torch.equal(model.align(x[0]), x[0, :, 4:36, 4:36])
        assert torch.equal(embedder().align(x[1]), x[1])


@pytest.mark.parametrize("centre", [None, torch.full([16], 0.1)])
def test_a_gpu_is_waited_for_at_the_end_of_a_micro_batch(centre, monkeypatch):
    with pretend_gpu(monkeypatch) as record:
        model = embedder(network().to(CUDA), size=32, width=16, device=CUDA, centre=centre)
        record.clear()
        model.embed(images(2 * model.micro_batch, size=20))
        assert record.waits.total() == 2 * 2, "whether lengths are finite, and the vectors"
