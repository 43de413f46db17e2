"""Recognisers: every form of file gives the embeddings of the backbone in it."""

import json
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from biometrics.backbones import build_backbone, state_of
from biometrics.embedding import are_independent, load_embedder
from biometrics.recogniser_settings import (
    ChannelOrder,
    RecogniserSettings,
    settings_path,
    write_settings,
)
from biometrics.recognisers import load_recogniser
from tests.biometrics.test_backbones import randomised, tiny

CONFIG = tiny(size=32)


def backbone():
    return randomised(build_backbone(CONFIG)).eval().requires_grad_(False)


def images(count=5, seed=0, side=32):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, [count, 3, side, side], generator=random, dtype=torch.uint8)


def expected(x=None, network=None):
    x = images() if x is None else x
    with torch.no_grad():
        return nn.functional.normalize((network or backbone())(x.float() / 127.5 - 1))


def save_onnx(path, network=None, *, batch=None, **settings):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    example = torch.zeros(batch or 2, 3, 32, 32)
    names = {"input_names": ["images"], "output_names": ["embeddings"]}
    axes = None if batch else {"images": {0: "N"}, "embeddings": {0: "N"}}
    with warnings.catch_warnings():  # the exporter of before needs no further package
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network or backbone(), (example,), str(path), dynamo=False, dynamic_axes=axes,
            **names, **settings,
        )  # fmt: skip
    return path


def save_script(path, module=None, traced=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(traced or backbone(), torch.zeros(2, 3, 32, 32))
                       if module is None else torch.jit.script(module), path)  # fmt: skip
    return path


class AnySize(nn.Module):
    """The same weights behind a change of size."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(nn.functional.interpolate(x, [32, 32]))


def agree(path, tolerance=1e-5, **changes):
    found = load_embedder(path, **changes).embed(images())
    torch.testing.assert_close(found, expected(), rtol=0, atol=tolerance)


class TestWeights:
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: {"epoch": 3, "state_dict_backbone": state, "state_dict_head": {}},
            lambda state: {"backbone": state, "optimizer": {"lr": 0.1}},
            lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}},
            lambda state: {
                **{f"module.encoder.{k}": v for k, v in state.items()},
                "module.head.weight": torch.zeros(3, 16),
            },
        ],
        ids=["arcface_torch", "backbone", "model", "beside a head"],
    )
    @pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
    def test_dresses(self, tmp_path, wrap, is_zip):
        content = wrap(state_of(backbone(), CONFIG))
        torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=is_zip)
        agree(tmp_path / "x.pth", tolerance=0)

    def test_half_precision(self, tmp_path):
        state = {k: v.half() if v.is_floating_point() else v
                 for k, v in state_of(backbone(), CONFIG).items()}  # fmt: skip
        torch.save(state, tmp_path / "x.pth")
        agree(tmp_path / "x.pth", tolerance=5e-3)

    def test_safetensors(self, tmp_path):
        save = pytest.importorskip("safetensors.torch").save_file
        save(state_of(backbone(), CONFIG), tmp_path / "x.safetensors")
        agree(tmp_path / "x.safetensors", tolerance=0)
        (tmp_path / "x.safetensors").write_bytes(b"\x01" * 40)
        with pytest.raises(ValueError, match=r"x\.safetensors: not a safetensors file"):
            load_recogniser(tmp_path / "x.safetensors")

    def test_two_backbones_are_not_guessed_between(self, tmp_path):
        state = state_of(backbone(), CONFIG)
        torch.save({"model": state, "ema": state}, tmp_path / "x.pth")
        with pytest.raises(ValueError, match=r"x\.pth.*several backbones.*'model\.', 'ema\.'"):
            load_recogniser(tmp_path / "x.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx", ".pt", ".pkl"])
@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 26\n", "git-LFS"),
        ("\n<!DOCTYPE html><html>", "HTML"),
    ],
)
def test_failed_downloads_are_called_what_they_are(tmp_path, suffix, content, name):
    path = tmp_path / f"x{suffix}"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"x\{suffix}: an? {name}"):
        load_recogniser(path)


class TestTorchScript:
    def test_embeddings(self, tmp_path):
        path = save_script(tmp_path / "x.pth")
        write_settings(path, RecogniserSettings(size=32))
        agree(path)
        assert load_recogniser(path).kind == "TorchScript"

    def test_a_size_that_does_not_fit_names_the_option(self, tmp_path):
        with pytest.raises(ValueError, match=r"x\.pt: takes no 112x112 .*--size"):
            load_recogniser(save_script(tmp_path / "x.pt"))

    def test_operations_on_files_are_refused(self, tmp_path):
        class Writer(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                torch.save(x, "written.bin")
                return x.flatten(1)

        path = save_script(tmp_path / "x.pt", Writer())
        with pytest.raises(ValueError, match=r"\.pt: .*refused: it uses 'save'"):
            load_recogniser(path)

    def test_nothing_runs_at_loading(self, tmp_path):
        class Setter(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x.flatten(1)

            @torch.jit.export
            def __getstate__(self) -> tuple[int, bool]:
                return 1, self.training

            @torch.jit.export
            def __setstate__(self, state: tuple[int, bool]) -> None:
                self.training = state[1]

        with pytest.raises(ValueError, match="refused: it uses '__setstate__'"):
            load_recogniser(save_script(tmp_path / "x.pt", Setter()))

    @pytest.mark.parametrize("defect", ["case", "cut name", "comment", "what is before"])
    def test_an_archive_that_two_readers_read_differently(self, tmp_path, defect):
        path = save_script(tmp_path / "x.pt")
        if defect == "what is before":
            path.write_bytes(b"MZ" + path.read_bytes())
        with zipfile.ZipFile(path, "a") as archive:
            name = next(name for name in archive.namelist() if name.endswith(".py"))
            match defect:
                case "case":
                    archive.writestr(name.upper(), "")
                case "cut name":
                    added = zipfile.ZipInfo()
                    added.filename = f"{name}.txt\0"
                    archive.writestr(added, "")
                case "comment":
                    archive.comment = b"another archive"
        with pytest.raises(ValueError, match=r"x\.pt: the TorchScript module is refused"):
            load_recogniser(path)


class TestOnnx:
    @pytest.mark.parametrize("batch", [None, 1, 3])
    def test_embeddings(self, tmp_path, batch):
        path = save_onnx(tmp_path / "x.onnx", batch=batch)
        agree(path)
        found = load_recogniser(path)
        assert (found.takes.size, found.width, found.assumed) == (32, 16, ("order", "mean", "std"))

    def test_pixels_that_the_graph_scales(self, tmp_path):
        class Scaled(nn.Module):
            def __init__(self):
                super().__init__()
                self.network = backbone()

            def forward(self, x):
                return self.network((x - 127.5) * 0.0078431372)

        path = save_onnx(tmp_path / "x.onnx", Scaled())
        assert load_recogniser(path).takes.std == (1,)
        agree(path)

    @pytest.mark.parametrize(
        "constant", [{"value_float": 127.5}, {"value_floats": [127.5]}, {"value_float": 0.5}]
    )
    def test_numbers_in_nodes(self, tmp_path, constant):
        onnx = pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        make, kind = onnx.helper.make_node, onnx.TensorProto.FLOAT
        nodes = [make("Constant", [], ["c"], **constant), make("Sub", ["x", "c"], ["z"]),
                 make("Flatten", ["z"], ["y"])]  # fmt: skip
        ends = [onnx.helper.make_tensor_value_info(name, kind, shape)
                for name, shape in (("x", ["N", 3, 4, 4]), ("y", ["N", 48]))]  # fmt: skip
        graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
        opset = onnx.helper.make_opsetid("", 17)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
        onnx.save(model, str(tmp_path / "x.onnx"))
        takes_bytes = constant != {"value_float": 0.5}
        assert load_recogniser(tmp_path / "x.onnx").takes.std == ((1,) if takes_bytes else (127.5,))

    def test_channels_last(self, tmp_path):
        class Last(nn.Module):
            def __init__(self):
                super().__init__()
                self.network = backbone()

            def forward(self, x):
                return self.network(x.permute(0, 3, 1, 2))

        pytest.importorskip("onnxruntime")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(Last(), (torch.zeros(1, 32, 32, 3),), str(tmp_path / "x.onnx"),
                              dynamo=False)  # fmt: skip
        agree(tmp_path / "x.onnx")

    def outside(self, folder, location):
        onnx = pytest.importorskip("onnx")
        path = save_onnx(folder / "x.onnx")
        model = onnx.load(str(path))
        onnx.external_data_helper.convert_model_to_external_data(model, location="x.bin",
                                                                 size_threshold=0)  # fmt: skip
        onnx.save(model, str(path))
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        content = onnx.load(str(path), load_external_data=False)
        for tensor in content.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(content.SerializeToString())
        return path

    def test_tensors_beside_the_file(self, tmp_path):
        agree(self.outside(tmp_path, "x.bin"))
        first = load_recogniser(tmp_path / "x.onnx").hash
        content = bytearray((tmp_path / "x.bin").read_bytes())
        content[-1] ^= 1
        (tmp_path / "x.bin").write_bytes(content)
        assert load_recogniser(tmp_path / "x.onnx").hash != first

    @pytest.mark.parametrize("location", ["../secret.bin", "link.bin"])
    def test_tensors_outside_its_folder(self, tmp_path, location):
        (tmp_path / "model").mkdir()
        path = self.outside(tmp_path / "model", location)
        (tmp_path / "secret.bin").write_bytes((tmp_path / "model" / "x.bin").read_bytes())
        (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "secret.bin")
        with pytest.raises(ValueError, match=rf"x\.onnx: .*'{location}', which is outside"):
            load_recogniser(path)

    def test_damage(self, tmp_path):
        path = save_onnx(tmp_path / "x.onnx")
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ValueError, match=r"x\.onnx: not a usable ONNX network"):
            load_recogniser(path)


class TestSettings:
    def save(self, folder, **settings):
        torch.save(state_of(backbone(), CONFIG), folder / "x.pth")
        plain = load_recogniser(folder / "x.pth").hash
        write_settings(folder / "x.pth", RecogniserSettings(**settings))
        return folder / "x.pth", plain

    def test_what_the_network_sees(self, tmp_path):
        path, plain = self.save(
            tmp_path, order=ChannelOrder.BGR, mean=(10.0, 20.0, 30.0), std=(2.0, 3.0, 4.0)
        )
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((10, 20, 30), (2, 3, 4)))
        with torch.no_grad():
            seen = backbone()((images().flip(1).float() - mean) / std)
        embedder = load_embedder(path)
        torch.testing.assert_close(
            embedder.embed(images()), nn.functional.normalize(seen), rtol=0, atol=1e-5
        )
        assert embedder.hash != plain

    def test_centre(self, tmp_path):
        centre = nn.functional.normalize(torch.ones(16), dim=0) * 0.5
        path, _ = self.save(tmp_path, centre=tuple(centre.tolist()))
        found = load_embedder(path).embed(images())
        torch.testing.assert_close(found, nn.functional.normalize(expected() - centre))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"size": 64}, "size must be 32"),
            ({"centre": (1.0, 2.0)}, "centre must be 16 numbers, got 2"),
            ({"mean": (1.0, 2.0)}, "mean must be 1 number or 3, got 2"),
            ({"std": (0.0,)}, "std must be above 0"),
            ({"order": ChannelOrder.GREY}, "order grey is of 1 channel, the network takes 3"),
        ],
    )
    def test_settings_that_do_not_fit(self, tmp_path, settings, message):
        path, _ = self.save(tmp_path, **settings)
        with pytest.raises(ValueError, match=rf"x\.pth with x\.pth\.json: {message}"):
            load_recogniser(path)

    @pytest.mark.parametrize(
        ("settings", "is_same"),
        [
            ({"order": ChannelOrder.RGB, "size": 32}, True),
            ({"mean": (127.5,) * 3, "std": (127.5,)}, True),
            ({"centred_on": "a folder"}, True),
            ({"std": (128.0,)}, False),
            ({"centre": (0.5,) + (0.0,) * 15}, False),
        ],
    )
    def test_the_hash_is_of_what_is_computed(self, tmp_path, settings, is_same):
        path, plain = self.save(tmp_path, **settings)
        found = load_embedder(path)
        assert (found.hash == plain) == is_same
        assert found.file_hash == plain
        write_settings(path, RecogniserSettings(**{**settings, "centred_on": "another"}))
        assert load_embedder(path).hash == found.hash

    def test_another_form_of_the_same_weights_is_not_independent(self, tmp_path):
        path, _ = self.save(tmp_path)
        script = save_script(tmp_path / "x.pt")
        write_settings(script, RecogniserSettings(size=32))
        torch.manual_seed(1)
        other = build_backbone(CONFIG).eval()
        torch.save(state_of(other, CONFIG), tmp_path / "y.pth")
        first, same, another = map(load_embedder, (path, script, tmp_path / "y.pth"))
        assert not are_independent(first, load_embedder(path, flip=True))
        assert not are_independent(first, same)
        assert are_independent(first, another)

    @pytest.mark.parametrize(
        "settings",
        [{"order": ChannelOrder.BGR}, {"mean": (0.0,), "std": (255.0,)}, {"size": 16}],
    )
    def test_weights_with_other_settings_are_not_independent(self, tmp_path, settings):
        path, _ = self.save(tmp_path)
        script = save_script(tmp_path / "x.pt", traced=AnySize(backbone()))
        write_settings(script, RecogniserSettings(**{"size": 32, **settings}))
        pair = load_embedder(path), load_embedder(script)
        assert not are_independent(*pair)
        assert not are_independent(*reversed(pair))

    def test_other_files_beside_it(self, tmp_path):
        path, _ = self.save(tmp_path)
        settings_path(path).write_text(json.dumps({"size": 3}))
        with pytest.raises(ValueError, match=r"x\.pth\.json: not the settings"):
            load_recogniser(path)


@pytest.mark.parametrize(("channels", "message"), [(1, "order bgr.*takes 1"), (2, "takes 2")])
def test_channels_that_do_not_fit(tmp_path, channels, message):
    config = tiny(size=32, in_channels=channels)
    torch.save(state_of(build_backbone(config), config), tmp_path / "x.pth")
    write_settings(tmp_path / "x.pth", RecogniserSettings(order=ChannelOrder.BGR))
    with pytest.raises(ValueError, match=rf"x\.pth with .*{message}"):
        load_recogniser(tmp_path / "x.pth")


def test_grey_networks(tmp_path):
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[1] == 1
            return x.flatten(1)

    path = save_script(tmp_path / "x.pt", Mean())
    write_settings(path, RecogniserSettings(size=4, order=ChannelOrder.GREY))
    assert load_embedder(path).embed(images(side=4)).shape == (5, 16)
    assert np.isfinite(load_embedder(path).embed(images(side=4)).numpy()).all()
