"""The self-check of a recogniser's input format, and the command that records it."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from biometrics.embedding import Embedder, NoEmbeddingError, Preprocessing, load_embedder
from biometrics.input_check import check_inputs
from biometrics.recogniser_settings import ChannelOrder, settings_path
from biometrics.recognisers import load_recogniser
from data.samples import open_samples
from evaluate import main
from tests.helpers.images import write_pairs
from tests.helpers.people import SIDE, save_recogniser


class ReddestPlaces(nn.Module):
    """Where red, -1..1, is bright; where it is so nowhere, or everywhere, all images are one."""

    def forward(self, x):
        signs = torch.tanh(8 * (x[:, 0] + 0.5))
        symmetric = signs + signs.flip(2)
        return torch.cat([symmetric.flatten(1), torch.ones(len(x), 4)], dim=1)


def faces():
    """Red dots on black, at other places in each image; symmetric."""
    random = torch.Generator().manual_seed(0)
    dots = (torch.rand([8, 8, 4], generator=random) > 0.5).byte() * 255
    x = torch.zeros([8, 3, 8, 8], dtype=torch.uint8)
    x[:, 0] = torch.cat([dots, dots.flip(2)], dim=2)
    return x


def check(**changes):
    embedder = Embedder(
        ReddestPlaces(), Preprocessing(size=8, **changes), hash="", width=68,
        device=torch.device("cpu"),
    )  # fmt: skip
    return check_inputs(embedder, faces())


def test_the_right_format():
    found = check()
    assert found.mirrored == pytest.approx(1)
    assert min(found.strangers.values()) == found.strangers["its own format"]
    assert found.warning is None


@pytest.mark.parametrize(
    ("changes", "better"),
    [
        ({"order": ChannelOrder.BGR}, "--order=rgb"),
        ({"mean": (0.0,), "std": (1.0,)}, "--mean=127.5 --std=127.5"),
    ],
)
def test_another_format_is_named(changes, better):
    assert better in check(**changes).warning


def test_a_network_that_is_not_for_faces():
    embedder = Embedder(
        nn.Flatten(), Preprocessing(size=8), hash="", width=192, device=torch.device("cpu")
    )
    noise = torch.randint(256, [5, 3, 8, 8], generator=torch.Generator().manual_seed(1)).byte()
    assert "mirror image" in check_inputs(embedder, noise).warning


class LeftOnly(ReddestPlaces):
    """Gives nothing that can be compared unless the first image's first pixel is the darkest."""

    def __init__(self, nothing):
        super().__init__()
        self.nothing = nothing

    def forward(self, x):
        return torch.where(x[0, 0, 0, 0] == -1, super().forward(x), self.nothing)


@pytest.mark.parametrize("nothing", [0.0, float("nan"), float("inf")])
def test_formats_without_embeddings_are_left_out(nothing):
    embedder = Embedder(
        LeftOnly(nothing), Preprocessing(size=8), hash="", width=68, device=torch.device("cpu")
    )
    images = faces()
    images[0, :, 0, 0], images[0, :, 0, -1] = 0, 255
    found = check_inputs(embedder, images)
    assert [*found.strangers] == ["its own format", "--order=bgr"]
    assert "mirror image" in found.warning
    with pytest.raises(NoEmbeddingError):
        check_inputs(embedder, images.flip(3))


class TestCommand:
    def run(self, *arguments, code=0):
        result = CliRunner().invoke(main, ["recogniser", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result.output

    def test_settings_are_kept_and_made_anew(self, tmp_path):
        model = save_recogniser(tmp_path / "r.pth")
        plain = load_recogniser(model).hash
        assert "r.pth.json" not in self.run("--rec-model", model)
        assert not settings_path(model).exists()
        self.run("--rec-model", model, "--order=bgr", "--mean=1,2,3")
        self.run("--rec-model", model, "--std=4")
        found = load_recogniser(model)
        assert (found.takes.order, found.takes.mean, found.takes.std) == ("bgr", (1, 2, 3), (4,))
        assert found.hash != plain

    def test_centre(self, tmp_path):
        model = save_recogniser(tmp_path / "r.pth")
        write_pairs(tmp_path / "data", [f"{p}_{i}" for p in range(4) for i in range(2)], size=SIDE)
        samples = open_samples(tmp_path / "data")
        rows = load_embedder(model).embed(
            torch.from_numpy(np.stack([samples.image("rgb", i) for i in range(8)]))
        )
        means = torch.stack([rows[2 * p : 2 * p + 2].mean(dim=0) for p in range(4)])
        output = self.run("--rec-model", model, "--data", tmp_path / "data", "--centre")
        content = json.loads(settings_path(model).read_text())
        assert "centred on data" in output
        assert (len(content["centre"]), content["centred_on"]) == (6, "data")
        assert content["centre"] == pytest.approx(means.mean(dim=0).tolist(), abs=1e-5)
        # What centring does is told of identities that the mean was not taken of.
        for centre in (0, (means[0] + means[2]) / 2):
            cosine = torch.cosine_similarity(means[1] - centre, means[3] - centre, dim=0)
            assert f"{cosine:.3f}" in output
        assert "a mean embedding of data is subtracted" in self.run("--rec-model", model)
        output = self.run("--rec-model", model, "--order=bgr")  # whose mean is another
        assert "--centre with --data" in output
        assert json.loads(settings_path(model).read_text())["centre"] == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--size=64"], "size must be 16"),
            (["--mean=1,2"], "mean must be 1 number or 3"),
            (["--centre"], "--data"),
        ],
    )
    def test_bad_options_leave_nothing(self, tmp_path, arguments, message):
        model = save_recogniser(tmp_path / "r.pth")
        assert message in " ".join(self.run("--rec-model", model, *arguments, code=2).split())
        assert not settings_path(model).exists()
