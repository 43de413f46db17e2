"""project_pairs.py: files, equal bytes after a kill, what is refused; generate.py on latents."""

import json
import warnings
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage

import generate
import preprocess_annotations
import project_pairs
import train_interpreter
from data.info import read_classes
from data.modalities import MODALITIES
from data.samples import open_samples
from interpreter.labeller import Labeller
from networks.sampling import IndexedSampler, load_ws
from networks.snapshot import load_generator
from projection import optimisation
from projection.jobs import prepare
from projection.options import ProjectionConfig, ProjectionOptions
from tests.helpers.images import write_image, write_json, write_pairs
from tests.helpers.interpreters import (
    CLASS_LIST,
    paint_masks,
    read_tree,
    save_small_models,
    save_small_snapshot,
)
from tests.helpers.interrupting import interrupt_at


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("projection")
    save_small_snapshot(folder / "net.pkl")
    save_small_snapshot(folder / "rgb.pkl", heads={"rgb": 3})
    save_small_snapshot(folder / "cond.pkl", c_dim=2)
    write_pairs(folder / "pairs", [f"{i}_0" for i in range(6)])
    write_pairs(folder / "large", ["1_0"], size=32)
    return folder


def run(*arguments, script=project_pairs, code=0):
    result = CliRunner().invoke(script.main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def project(place, outdir, *arguments, data="pairs", network="net.pkl", code=0):
    return run(
        f"--network={place / network}", f"--data={place / data}", f"--outdir={outdir}",
        "--num-steps=2", *arguments, code=code,
    )  # fmt: skip


def test_files_and_errors(place, tmp_path):
    assert "6 samples" in project(place, tmp_path / "out")
    content = json.loads((tmp_path / "out/errors.json").read_text())
    first = content["images"][0]
    assert (first["name"], first["identity"]) == ("0_0", "0")
    for name, channels in (("VIS", 3), ("NIR", 1)):
        true, found = (
            np.asarray(Image.open(folder / name / "0_0.png"), np.float64)
            for folder in (place / "pairs", tmp_path / "out/reconstructed")
        )
        assert found.shape == ((16, 16, 3) if channels == 3 else (16, 16))
        key = "rgb" if name == "VIS" else "nir"
        assert first["mae"][key] == pytest.approx(np.abs(true - found).mean(), abs=1e-5)
        assert first["rmse"][key] == pytest.approx(((true - found) ** 2).mean() ** 0.5, abs=1e-5)
        every = [entry["mae"][key] for entry in content["images"]]
        assert content["mae"][key] == pytest.approx(np.mean(every))
    with np.load(tmp_path / "out/projected_w.npz") as file:
        assert file["w"].shape == (6, 6, 12)
        assert file["w"].dtype == np.float32
        assert file["names"].tolist()[-1] == "5_0"
    with Image.open(tmp_path / "out/contact_sheet.png") as sheet:
        assert sheet.size[0] > 100


def test_generate_shows_the_reconstructions(place, tmp_path):
    project(place, tmp_path / "out", "--first=2")
    arguments = (f"--network={place / 'net.pkl'}", f"--outdir={tmp_path / 'shown'}")
    run(*arguments, f"--projected-w={tmp_path / 'out/projected_w.npz'}", script=generate)
    for number in range(2):
        for folder in ("VIS", "NIR"):
            kind = "RGB" if folder == "VIS" else folder
            shown = (tmp_path / f"shown/proj{number:02d}_{kind}.png").read_bytes()
            found = tmp_path / f"out/reconstructed/{folder}/{number}_0.png"
            assert shown == found.read_bytes()


def test_a_killed_projection_continues_to_the_same_bytes(place, tmp_path, monkeypatch):
    monkeypatch.setattr(optimisation, "_CPU_BATCH", 4)

    def job(name):
        return prepare(
            ProjectionOptions(
                network=place / "net.pkl",
                data=place / "pairs",
                config=ProjectionConfig(steps=3),
                outdir=tmp_path / name,
                device="cpu",
            ),
            load_labeller=None,
        )

    job("whole").run(lambda *_: lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        job("torn").run(interrupt_at(5))
    assert not (tmp_path / "torn/projected_w.npz").exists()
    job("torn").run(lambda *_: lambda _: None)
    assert read_tree(tmp_path / "torn") == read_tree(tmp_path / "whole")
    assert "finished before" in job("torn").run(None)


def test_processes_one_after_the_other_share_the_images(place, tmp_path, monkeypatch):
    monkeypatch.setattr(optimisation, "_CPU_BATCH", 4)
    project(place, tmp_path / "one")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        project(place, tmp_path / "two")
        assert (tmp_path / "two/errors.json").is_file() == bool(rank)
    assert read_tree(tmp_path / "two") == read_tree(tmp_path / "one")


def test_one_modality(place, tmp_path):
    project(place, tmp_path / "folder", "--from=nir", data="pairs/NIR")
    content = json.loads((tmp_path / "folder/errors.json").read_text())
    assert list(content["mae"]) == ["nir"]
    assert (tmp_path / "folder/reconstructed/VIS/0_0.png").is_file()
    project(place, tmp_path / "image", "--from=rgb", data="pairs/VIS/3_0.png")
    with np.load(tmp_path / "image/projected_w.npz") as file:
        assert file["names"].tolist() == ["3_0"]
    # The modality that was not seen is measured where it is there.
    project(place, tmp_path / "both", "--from=rgb", "--first=1")
    content = json.loads((tmp_path / "both/errors.json").read_text())
    assert list(content["mae"]) == ["rgb", "nir"]


@pytest.mark.parametrize(
    ("data", "source", "wanted"),
    [
        ("alone", "nir", "needs nir"),
        ("alone/VIS", "nir", "needs nir"),
        ("alone/VIS/0_0.png", "nir", "needs nir"),
        ("images", "nir", None),
        ("images/0.png", "nir", None),
        ("images/1_RGB.png", "nir", "needs nir"),
        ("pairs/NIR/0_0.png", "rgb", "needs rgb"),
        ("pairs/NIR", "rgb", "needs rgb"),
    ],
)
def test_images_are_of_the_modality_that_their_names_tell(place, tmp_path, data, source, wanted):
    """Only where these tell none, they are what is asked for."""
    for name in ("alone/VIS/0_0.png", "images/0.png"):
        write_image(tmp_path / name, np.zeros((16, 16, 3), np.uint8))
    if "RGB" in data:
        write_image(tmp_path / data, np.zeros((16, 16, 3), np.uint8))
    data = place / data if data.startswith("pairs") else tmp_path / data
    told = project(place, tmp_path / "o", f"--from={source}", "--dry-run", data=data,
                   code=2 if wanted else 0)  # fmt: skip
    assert (wanted or "") in told


def test_images_after_the_first_are_not_looked_at(place, tmp_path):
    write_pairs(tmp_path / "set", ["0_0", "1_0"])
    (tmp_path / "set/VIS/1_0.png").write_bytes(b"damaged")
    project(place, tmp_path / "o", "--first=1", "--dry-run", data=tmp_path / "set")
    project(place, tmp_path / "o", "--first=2", "--dry-run", data=tmp_path / "set", code=2)


def test_the_other_modality_follows(place, tmp_path):
    project(place, tmp_path / "plain", "--from=rgb", "--first=1")
    project(place, tmp_path / "fine", "--from=rgb", "--first=1", "--residual")
    names = ["pairs/VIS", "reconstructed/VIS", "reconstructed/NIR", "pairs/NIR"]
    true, shown, nir, fine = (
        np.asarray(Image.open(tmp_path / "fine" / name / "0_0.png"), np.float64) for name in names
    )
    assert (true == np.asarray(Image.open(place / "pairs/VIS/0_0.png"))).all()
    residual = (true - shown) @ [0.299, 0.587, 0.114]
    detail = residual - ndimage.gaussian_filter(residual, 1.0)
    np.testing.assert_allclose(fine, (nir + detail).clip(0, 255), atol=0.51)
    plain = np.asarray(Image.open(tmp_path / "plain/pairs/NIR/0_0.png"))
    assert (plain == nir).all()
    measured = np.asarray(Image.open(place / "pairs/NIR/0_0.png"), np.float64)
    (entry,) = json.loads((tmp_path / "fine/errors.json").read_text())["images"]
    assert entry["mae_residual"] == {"nir": pytest.approx(np.abs(fine - measured).mean(), abs=1e-5)}
    assert "--residual" in project(place, tmp_path / "pair", "--residual", code=2)


def test_labels_of_real_images(place, tmp_path):
    save_small_models(tmp_path / "models", 80)
    out = tmp_path / "out"
    project(place, out, f"--interpreter={tmp_path / 'models'}", "--first=5")
    found = open_samples(out / "pairs", MODALITIES)
    assert len(found) == found.num_masks == 5
    sampler = IndexedSampler(load_generator(place / "net.pkl")[0], None, name="net")
    labeller = Labeller(tmp_path / "models", sampler.generator)
    ws = load_ws(out / "projected_w.npz", "--w", sampler.generator)
    for index, sample in enumerate(sampler.features(ws)):
        labelling = labeller(sample.maps)
        assert np.array_equal(found.mask(index), labelling.labels)
        with Image.open(out / f"pairs/uncertainty/{found.stems[index]}.png") as image:
            assert np.array_equal(np.asarray(image), labelling.uncertainty(3)[0])
    assert read_classes(found.base).count == 3
    (tmp_path / "models/interpreter.json").write_text(
        json.dumps({"finished": True, "identity": {"network_sha256": "0" * 64}})
    )
    told = project(place, out, f"--interpreter={tmp_path / 'models'}", code=2)
    assert "network_sha256" in told


@pytest.mark.parametrize("network", ["net.pkl", "cond.pkl"])
def test_real_images_are_annotated_and_trained_on(place, tmp_path, network):
    np.save(tmp_path / "c.npy", np.eye(2))
    labels = [f"--labels={tmp_path / 'c.npy'}"] if network == "cond.pkl" else []
    project(place, tmp_path / "out", "--annotate", "--first=3", *labels, network=network)
    painted = paint_masks(tmp_path / "painted", [2, 0])
    write_json(tmp_path / "classes.json", CLASS_LIST)
    run(
        f"--annotations={painted}", f"--drawn={tmp_path / 'out'}",
        f"--classes={tmp_path / 'classes.json'}", f"--outdir={tmp_path / 'processed'}",
        script=preprocess_annotations,
    )  # fmt: skip
    experiment = {
        "stylegan_checkpoint": str(place / network),
        "exp_dir": str(tmp_path),
        "annotation_mask_path": "processed",
        "annotation_image_latent_path": "processed/latent_stylegan.npy",
        "annotation_data_from_w": True,
        "model_num": 1,
        "max_steps": 2,
        "min_region_pixels": 0,
    }
    write_json(tmp_path / "exp.json", experiment)
    run(f"--exp={tmp_path / 'exp.json'}", script=train_interpreter)
    assert (tmp_path / "models/model_0.pth").is_file()
    with np.load(tmp_path / "out/projected_w.npz") as file:
        rows = np.load(tmp_path / "processed/latent_stylegan.npy")
        assert np.array_equal(rows, file["w"][[0, 2]])
    # Latents of another network are refused.
    other = {**experiment, "stylegan_checkpoint": str(place / "rgb.pkl")}
    write_json(tmp_path / "exp.json", other)
    assert "network_sha256" in run(
        f"--exp={tmp_path / 'exp.json'}", script=train_interpreter, code=2
    )


class Means(torch.nn.Module):
    """Feature networks that are right, and that are wrong in some way."""

    kind: torch.jit.Final[str]

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "one number":
            return x.mean()
        if self.kind == "one row":
            return x.mean(dim=(0, 2, 3))
        if self.kind == "three rows":
            return x.mean(dim=(0, 2))
        if self.kind == "no gradients":
            return x.detach().mean(dim=(2, 3))
        return x.mean(dim=(2, 3))


def save_means(path, kind="right"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Means(kind)).save(str(path))
    return path


@pytest.mark.parametrize("kind", ["one number", "one row", "three rows", "no gradients"])
def test_networks_without_features_of_each_image_are_refused(place, tmp_path, kind):
    network = save_means(tmp_path / "means.pt", kind)
    assert "means.pt" in project(place, tmp_path / "o", f"--features={network}", code=2)


def test_a_video_and_a_network_of_features(place, tmp_path):
    network = save_means(tmp_path / "means.pt")
    words = (f"--features={network}", f"--video={tmp_path / 'steps.gif'}", "--first=2")
    project(place, tmp_path / "out", *words)
    with Image.open(tmp_path / "steps.gif") as video:
        assert video.size == (64, 32)  # two samples, originals on the left
    project(place, tmp_path / "out", *words)  # the same again
    # A folder that has the samples already makes no other video.
    later = [words[0], words[2], f"--video={tmp_path / 'later.gif'}"]
    assert "--fresh" in project(place, tmp_path / "out", *later, code=2)
    network.write_bytes(b"no network")
    assert "means.pt" in project(place, tmp_path / "other", *words, code=2)
    assert "--video" in project(place, tmp_path / "other", "--video=steps.png2", code=2)


def test_conditional_networks_need_labels(place, tmp_path):
    assert "--labels" in project(place, tmp_path / "out", network="cond.pkl", code=2)
    np.save(tmp_path / "c.npy", np.eye(2))
    project(place, tmp_path / "out", f"--labels={tmp_path / 'c.npy'}", network="cond.pkl")


def test_an_encoder_is_trained_once_and_gives_the_start(place, tmp_path, monkeypatch):
    encoder = (f"--encoder={tmp_path / 'encoder'}", "--encoder-steps=2", "--first=2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert "--encoder" in project(place, tmp_path / "a", *encoder, code=2)
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    project(place, tmp_path / "a", *encoder)
    trained = read_tree(tmp_path / "encoder")
    project(place, tmp_path / "b", *encoder, "--steps=0", "--seed=1")
    assert read_tree(tmp_path / "encoder") == trained
    project(place, tmp_path / "c", "--first=2")
    project(place, tmp_path / "d", *encoder, "--steps=0", "--seed=2")
    found = [np.load(tmp_path / name / "projected_w.npz")["w"] for name in "abcd"]
    assert np.array_equal(found[1], found[3])
    assert not np.array_equal(found[0], found[2])
    assert not np.array_equal(found[1], found[0])
    project(place, tmp_path / "a", *encoder)  # finished
    content = torch.load(tmp_path / "encoder/encoder.pt", weights_only=True)
    content["state"]["layers.0.bias"] += 1
    torch.save(content, tmp_path / "encoder/encoder.pt")
    assert "sha256" in project(place, tmp_path / "a", *encoder, code=2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"data": "large"}, "16 pixels"),
        ({"data": "rgb alone"}, "nir"),
        ({"data": "pairs/VIS/0_0.png"}, "--from"),
        ({"network": "rgb.pkl"}, "no nir images"),
        ({"data": "absent"}, "absent"),
        ({"words": ["--feature-weight=2"]}, "--features"),
        ({"words": ["--encoder-steps=2"]}, "--encoder"),
        ({"words": ["--steps=0", "--video=a.gif"]}, "--steps"),
        ({"words": ["--residual", "--from=rgb"], "network": "rgb.pkl"}, "--residual"),
    ],
)
def test_what_does_not_fit_is_refused(place, tmp_path, arguments, told):
    words = arguments.get("words", [])
    arguments = {key: value for key, value in arguments.items() if key != "words"}
    if arguments.get("data") == "rgb alone":
        arguments = {
            "data": write_image(tmp_path / "alone/a.png", np.zeros((16, 16, 3), np.uint8)).parent
        }
    assert told in project(place, tmp_path / "out", *words, **arguments, code=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seeds=1"], "--projected-w"),
        (["--truncation=0.5"], "--truncation"),
        (["--truncation-cutoff=2"], "--truncation-cutoff"),
        (["--class=0"], "--class"),
    ],
)
def test_generate_refuses_what_projected_latents_do_not_take(place, tmp_path, arguments, told):
    np.savez(tmp_path / "w.npz", w=np.zeros((1, 6, 12)))
    common = (f"--network={place / 'net.pkl'}", f"--projected-w={tmp_path / 'w.npz'}")
    assert told in run(*common, f"--outdir={tmp_path / 'o'}", *arguments, script=generate, code=2)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"x": np.zeros((1, 6, 12))}, "'w'"),
        ({"w": np.zeros((1, 6, 11))}, "[N, 6, 12]"),
        ({"w": np.full((1, 6, 12), np.nan)}, "finite"),
        ({"w": np.array([{}])}, "numbers"),
        ({"w": np.full((1, 6, 12), 1e300)}, "finite"),
        (zipfile.ZIP_LZMA, "compressed"),
        (zipfile.ZIP_BZIP2, "compressed"),
        (None, "npz"),
    ],
)
def test_generate_refuses_files_of_other_things(place, tmp_path, content, told):
    path = tmp_path / "w.npz"
    if content is None:
        path.write_bytes(b"PK not an archive")
    elif isinstance(content, int):
        with zipfile.ZipFile(path, "w", content) as archive:
            archive.writestr("w.npy", b"")
    else:
        np.savez(path, **content)
    common = (f"--network={place / 'net.pkl'}", f"--outdir={tmp_path / 'o'}")
    assert told in run(*common, f"--projected-w={path}", script=generate, code=2)
