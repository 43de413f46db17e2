"""Where networks come from, what they are called, and what is refused."""

import warnings

import pytest
import torch

from biometrics.embedding import load_embedder
from dnnlib.files import sha256_file
from evaluation import extractors
from evaluation.extractors import WeightFile, build_extractors
from evaluation.feature_networks import STANDIN_NAME, Inception, RandomConvolutions
from evaluation.names import Role
from tests.helpers.people import save_recogniser

IMAGES = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()


class Published(torch.nn.Module):
    """Takes the arguments of both published modules."""

    def forward(
        self,
        x,
        return_features: bool = False,
        no_output_bias: bool = False,
        resize_images: bool = True,
        return_lpips: bool = False,
    ):
        rows = x.float().mean(dim=[2, 3])
        if return_features:
            return rows
        if no_output_bias:
            return rows.softmax(dim=1)
        if return_lpips and not resize_images:
            return rows * 10
        return rows * 0


class WholeImages(torch.nn.Module):
    def forward(self, x):
        return x.float()


def save_script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module), str(path))
    return path


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with modules that pass for the published ones."""
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("BIFACE_OFFLINE", "1")
    folder = tmp_path / "networks"
    folder.mkdir()
    table = {}
    for role, (weights, arguments) in extractors._PUBLISHED.items():
        path = save_script(Published(), folder / weights.file)
        known = WeightFile(folder=weights.folder, file=weights.file, sha256=sha256_file(path))
        table[role] = (known, arguments)
    monkeypatch.setattr(extractors, "_PUBLISHED", table)
    return folder


def test_published_modules_are_called_as_published(published):
    found = build_extractors(f"reference:{published}", Role)
    mean = IMAGES.float().mean(dim=(2, 3))
    expected = {
        Role.FEATURES: mean,
        Role.PROBABILITIES: mean.softmax(dim=1),
        Role.MANIFOLD: mean,
        Role.PERCEPTUAL: mean * 10,
    }
    for role, network in found.items():
        assert network.is_reference
        torch.testing.assert_close(network(IMAGES), expected[role])
    assert found[Role.FEATURES].name == "inception-2015-12-05"
    assert found[Role.MANIFOLD].name == "vgg16"
    assert len({network.hash for network in found.values()}) == 4


def test_published_modules_from_the_cache(published, tmp_path):
    folder = tmp_path / "cache" / "downloads"
    folder.mkdir(parents=True)
    (published / "inception-2015-12-05.pt").rename(folder / "inception-2015-12-05.pt")
    (network,) = build_extractors("reference", {Role.FEATURES}).values()
    assert network.is_reference


def test_only_what_is_needed_is_looked_for(published):
    (published / "vgg16.pt").unlink()
    build_extractors(f"reference:{published}", {Role.FEATURES, Role.PROBABILITIES})
    with pytest.raises(FileNotFoundError, match=r"vgg16.pt: no such file; --extractor=standin"):
        build_extractors(f"reference:{published}", {Role.MANIFOLD})


def test_offline_says_what_to_do(published):
    with pytest.raises(ValueError, match="forbids fetching: put the file to .*=standin needs no"):
        build_extractors("reference", {Role.FEATURES})


def test_another_file_does_not_pass_for_the_published_one(published):
    path = published / "inception-2015-12-05.pt"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match="not the published inception-2015-12-05.pt"):
        build_extractors(f"reference:{published}", {Role.FEATURES})


class TestTorchScript:
    def test_any_module(self, tmp_path):
        path = save_script(Published(), tmp_path / "my net.pt")
        found = build_extractors(f"torchscript:{path}", Role)
        network = found[Role.FEATURES]
        assert (network.name, network.is_reference) == ("torchscript-my-net", False)
        assert network.hash == sha256_file(path)
        assert network(IMAGES).shape == (4, 3)

    def test_the_published_file_is_not_the_reference_this_way(self, published):
        path = published / "inception-2015-12-05.pt"
        (network,) = build_extractors(f"torchscript:{path}", {Role.FEATURES}).values()
        assert not network.is_reference

    def test_features_must_be_rows(self, tmp_path):
        path = save_script(WholeImages(), tmp_path / "images.pt")
        (network,) = build_extractors(f"torchscript:{path}", {Role.FEATURES}).values()
        with pytest.raises(ValueError, match=r"\[N, D\] features are needed, got \[4, 3, 8, 8\]"):
            network(IMAGES)

    def test_a_module_that_fails(self, tmp_path):
        path = save_script(torch.nn.Linear(5, 2), tmp_path / "linear.pt")
        (network,) = build_extractors(f"torchscript:{path}", {Role.FEATURES}).values()
        with pytest.raises(ValueError, match="torchscript-linear: fails on images"):
            network(IMAGES)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02."])
    def test_no_module(self, tmp_path, content):
        path = tmp_path / "net.pt"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a TorchScript module"):
            build_extractors(f"torchscript:{path}", {Role.FEATURES})

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file"):
            build_extractors(f"torchscript:{tmp_path / 'net.pt'}", {Role.FEATURES})


class TestStandIn:
    def test_name_and_roles(self):
        found = build_extractors("standin", {Role.FEATURES, Role.MANIFOLD, Role.PERCEPTUAL})
        assert {network.name for network in found.values()} == {STANDIN_NAME}
        assert not any(network.is_reference for network in found.values())

    def test_devices_agree(self, device, assert_near):
        (network,) = build_extractors("standin", {Role.FEATURES}, device=str(device)).values()
        assert_near(network(IMAGES).cpu(), RandomConvolutions()(IMAGES))

    def test_has_no_classes(self):
        with pytest.raises(ValueError, match="standin: has no probabilities network"):
            build_extractors("standin", {Role.PROBABILITIES})

    def test_weights_are_always_the_same(self):
        """Another hash means that cached features and old numbers no longer compare."""
        one, two = RandomConvolutions(), RandomConvolutions()
        assert one.hash == two.hash
        torch.testing.assert_close(one(IMAGES), two(IMAGES), rtol=0, atol=0)

    @pytest.mark.parametrize("side", [4, 64, 100])
    def test_any_size(self, side):
        rows = RandomConvolutions()(torch.full((2, 3, side, side), 200, dtype=torch.uint8))
        assert rows.shape == (2, 640)
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows[0], rows[1])

    def test_floating_point_images_are_on_the_same_scale(self):
        network = RandomConvolutions()
        torch.testing.assert_close(network(IMAGES.float()), network(IMAGES))

    def test_sees_noise_blur_and_colour(self):
        network = RandomConvolutions()
        plain = network(IMAGES)
        changed = [
            IMAGES // 2,
            IMAGES.flip(1),
            torch.nn.functional.avg_pool2d(IMAGES.float(), 3, 1, 1).byte(),
        ]
        for images in changed:
            assert float((network(images) - plain).norm() / plain.norm()) > 0.02


class TestRecogniser:
    def test_is_a_named_stand_in(self, tmp_path):
        path = save_recogniser(tmp_path / "r18 glint.pth")
        found = build_extractors(f"recogniser:{path}", {Role.FEATURES, Role.MANIFOLD})
        network = found[Role.FEATURES]
        assert (network.name, network.is_reference) == ("recogniser-r18-glint", False)
        assert network.hash == sha256_file(path)
        torch.testing.assert_close(network(IMAGES), load_embedder(path).embed(IMAGES))

    def test_has_no_path_lengths(self, tmp_path):
        path = save_recogniser(tmp_path / "r18.pth")
        with pytest.raises(ValueError, match="has no perceptual network"):
            build_extractors(f"recogniser:{path}", {Role.PERCEPTUAL})


@pytest.mark.parametrize("choice", ["", "inception", "standin:5", "torchscript", "recogniser"])
def test_other_choices_are_refused(choice):
    with pytest.raises(ValueError, match="--extractor must be one of reference"):
        build_extractors(choice, {Role.FEATURES})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights in torch-fidelity's form."""
    torch.manual_seed(0)
    network = Inception()
    random = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        draw = torch.randn(tensor.shape, generator=random) if tensor.ndim else tensor
        if name.endswith("conv.weight"):  # so that the image comes through all the layers
            tensor.copy_(draw * (2 / tensor[0].numel()) ** 0.5)
        elif name.endswith(("running_mean", "bn.bias")):
            tensor.copy_(draw * 0.1)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


class TestFidelity:
    def build(self, path, monkeypatch, roles=(Role.FEATURES, Role.PROBABILITIES)):
        known = WeightFile(folder="", file=path.name, sha256=sha256_file(path))
        monkeypatch.setattr(extractors, "FIDELITY", known)
        return build_extractors(f"torch-fidelity:{path}", roles)

    def test_torch_fidelity_agrees(self, weights, monkeypatch):
        module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
        other = module.FeatureExtractorInceptionV3(
            "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
        )
        features, logits = other(IMAGES)
        assert features.std(dim=0).median() > 0.01 * features.abs().median() > 0
        found = self.build(weights, monkeypatch)
        assert found[Role.FEATURES].is_reference
        torch.testing.assert_close(found[Role.FEATURES](IMAGES), features, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            found[Role.PROBABILITIES](IMAGES), logits.softmax(dim=1), rtol=1e-3, atol=1e-7
        )

    def test_has_no_vgg(self, weights, monkeypatch):
        with pytest.raises(ValueError, match="has no manifold network"):
            self.build(weights, monkeypatch, {Role.MANIFOLD})

    def test_other_weights(self, tmp_path, monkeypatch):
        path = tmp_path / "weights.pth"
        torch.save({"fc.weight": torch.zeros(2, 2)}, path)
        with pytest.raises(ValueError, match="not the weights of FID's Inception network"):
            self.build(path, monkeypatch)

    def test_hostile_weights(self, tmp_path, monkeypatch):
        path = tmp_path / "weights.pth"
        path.write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00exit\x85R.")
        with pytest.raises(ValueError, match="not a readable file of weights"):
            self.build(path, monkeypatch)
