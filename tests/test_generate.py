"""generate.py from the command line: files, equal bytes, golden images, errors in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from data.pixels import to_uint8
from generate import main
from networks.config import DiscriminatorConfig, GeneratorConfig
from networks.discriminator import Discriminator
from networks.generation import read_conditions
from networks.generator import Generator
from networks.options import GenerationOptions
from networks.snapshot import Snapshot, build_generator, capture, load_snapshot, save_snapshot
from tests.helpers.golden import SHARED, assert_golden, read_shared

SMALL = {"resolution": 8, "channel_base": 32, "channel_max": 4}


def small_snapshot(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = {}
        for name in ("G", "G_ema"):
            generator = Generator(GeneratorConfig(**SMALL, z_dim=3, w_dim=4, **options))
            for key, tensor in generator.state_dict().items():
                if key.endswith("noise_strength"):
                    tensor.detach().fill_(0.5)
            networks[name] = capture(generator)
        networks["D"] = capture(Discriminator(DiscriminatorConfig(**SMALL)))
    return Snapshot(networks=networks, augment={}, options={}, nimg=0)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("snapshots") / "dual.pkl"
    save_snapshot(path, small_snapshot())
    return path


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    path = tmp_path_factory.mktemp("snapshots") / "conditional.pkl"
    save_snapshot(path, small_snapshot(c_dim=3))
    return path


def generate(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit | None)
    return result.output


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_images_grid_and_raw(network, tmp_path):
    generate(f"--network={network}", "--seeds=0,3-5", f"--outdir={tmp_path}", "--raw")
    names = [f"seed{seed:04d}_{kind}.png" for seed in (0, 3, 4, 5) for kind in ("RGB", "NIR")]
    assert sorted(contents(tmp_path)) == sorted([*names, "grid.png", "images.npz"])
    with np.load(tmp_path / "images.npz") as raw:
        assert raw["rgb"].shape == (4, 3, 8, 8)
        assert raw["nir"].shape == (4, 1, 8, 8)
        assert raw["rgb"].dtype == np.float32
        pixels = {name: to_uint8(torch.from_numpy(raw[name])).numpy() for name in ("rgb", "nir")}
        generator = build_generator(load_snapshot(network))
        z = torch.from_numpy(np.random.RandomState(3).standard_normal((1, 3))).float()
        expected = generator(z, noise_mode="const")
        assert_golden(raw["rgb"][1:2], expected["rgb"])
    rgb = np.asarray(Image.open(tmp_path / "seed0003_RGB.png"))
    nir = np.asarray(Image.open(tmp_path / "seed0003_NIR.png"))
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert np.array_equal(rgb.transpose(2, 0, 1), pixels["rgb"][1])
    assert np.array_equal(nir, pixels["nir"][1, 0])
    assert grid.shape == (16, 32, 3)
    assert np.array_equal(grid[:8, 16:24], rgb)
    assert np.array_equal(grid[:8, 24:], np.repeat(nir[..., None], 3, axis=2))


def test_options_change_the_images(network, tmp_path):
    variants = {
        "plain": [],
        "truncated": ["--truncation=0.5"],
        "cut off": ["--trunc=0.5", "--truncation-cutoff=2"],
        "none": ["--noise-mode=none"],
        "random": ["--noise-mode=random"],
        "other noise": ["--noise-mode=random", "--seed=1"],
        "raw g": ["--use-raw-g"],
    }
    images = set()
    for name, options in variants.items():
        folder = tmp_path / name
        generate(f"--network={network}", "--seeds=1", f"--outdir={folder}", *options)
        images.add((folder / "seed0001_NIR.png").read_bytes())
    assert len(images) == len(variants)


def test_seeds_and_latents_agree(network, tmp_path):
    np.save(tmp_path / "z.npy", np.random.RandomState(7).standard_normal((1, 3)))
    generate(f"--network={network}", "--seeds=7", f"--outdir={tmp_path / 'a'}")
    latents = f"--latents={tmp_path / 'z.npy'}"
    generate(f"--network={network}", latents, f"--outdir={tmp_path / 'b'}")
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first["seed0007_RGB.png"] == second["latent0000_RGB.png"]


def test_class_is_a_one_hot_label(conditional, tmp_path):
    common = [f"--network={conditional}", "--seeds=0,1"]
    for name, rows in {"one": [[0, 1, 0]], "each": [[0, 1, 0], [0, 1, 0]]}.items():
        np.save(tmp_path / "c.npy", np.array(rows))
        folder = f"--outdir={tmp_path / name}"
        generate(*common, f"--labels={tmp_path / 'c.npy'}", folder)
    generate(*common, "--class=1", f"--outdir={tmp_path / 'class'}")
    generate(*common, "--class=2", f"--outdir={tmp_path / 'other'}")
    expected = contents(tmp_path / "class")
    assert contents(tmp_path / "one") == contents(tmp_path / "each") == expected
    assert contents(tmp_path / "other") != expected


def test_style_mixing_of_a_conditional_network(conditional, tmp_path):
    mixing = ["--seeds=0,1", "--mix-seeds=2,3,4", "--mix-layers=0-1"]
    generate(f"--network={conditional}", *mixing, "--class=0", f"--outdir={tmp_path}")
    pairs = [f"mix_seed{r:04d}-seed{c:04d}" for r in (0, 1) for c in (2, 3, 4)]
    names = [f"{pair}_{kind}.png" for pair in pairs for kind in ("RGB", "NIR")]
    assert sorted(contents(tmp_path)) == sorted([*names, "grid.png"])
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (24, 64, 3)
    assert not grid[:8, :16].any()
    generate(f"--network={conditional}", "--seeds=2,1", "--class=0", f"--outdir={tmp_path / 'own'}")
    top = np.asarray(Image.open(tmp_path / "own" / "seed0002_RGB.png"))
    left = np.asarray(Image.open(tmp_path / "own" / "seed0001_RGB.png"))
    mixed = np.asarray(Image.open(tmp_path / "mix_seed0001-seed0003_RGB.png"))
    # The same samples at other places of a micro-batch: equal up to one level.
    assert np.abs(grid[:8, 16:24].astype(int) - top).max() <= 1
    assert np.abs(grid[16:, :8].astype(int) - left).max() <= 1
    assert np.array_equal(grid[16:, 32:40], mixed)


def test_video(network, tmp_path):
    path = tmp_path / "walk.gif"
    generate(f"--network={network}", "--seeds=0-2", f"--video={path}", "--frames=4", "--outdir=x")
    with Image.open(path) as video:
        assert (video.n_frames, video.size) == (12, (16, 8))


def test_convert(network, tmp_path):
    output = generate(f"--network={network}", f"--convert-to={tmp_path / 'ours.pkl'}")
    assert "G, G_ema, D" in output
    assert (tmp_path / "ours.pkl").read_bytes() == network.read_bytes()


def test_dry_run_writes_nothing(network, tmp_path):
    out, converted = tmp_path / "out", tmp_path / "x.pkl"
    output = generate(f"--network={network}", "--seeds=0-1", f"--outdir={out}", "--dry-run")
    plan = json.loads(output)
    assert plan["samples"] == ["seed0000", "seed0001"]
    assert plan["options"]["noise_mode"] == "const"
    assert plan["generator"]["heads"] == {"rgb": 3, "nir": 1}
    generate(f"--network={network}", f"--convert-to={converted}", "-n")
    assert not list(tmp_path.iterdir())


# Errors


ERRORS = {
    "no samples": ([], "one of --seeds, --latents, --projected-w"),
    "bad seeds": (["--seeds=1,x"], "--seeds"),
    "both": (["--seeds=1", "--latents=z.npy"], "one of --seeds, --latents, --projected-w"),
    "missing latents": (["--latents=absent.npy"], "--latents absent.npy: no such file"),
    "labels of an unconditional network": (["--seeds=1", "--class=0"], "is unconditional"),
    "class and labels": (["--seeds=1", "--class=0", "--labels=c.npy"], "give one"),
    "layers": (
        ["--seeds=1", "--mix-seeds=2", "--mix-layers=0-9"],
        "--mix-layers must be from 0 to 3",
    ),
    "video ending": (["--seeds=1", "--video=x.avi"], "x.avi"),
    "truncation": (["--seeds=1", "--truncation=nan"], "--truncation"),
    "noise": (["--seeds=1", "--noise-mode=loud"], "--noise-mode"),
    "endings": (["--convert-to=x.gif"], "--convert-to x.gif: the name must end in one of"),
    "combined": (["--seeds=1", "--raw", "--mix-seeds=1"], "cannot be combined"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_options_are_named(network, tmp_path, name):
    options, reason = ERRORS[name]
    out = tmp_path / "out"
    output = generate(f"--network={network}", f"--outdir={out}", *options, code=2)
    assert reason in " ".join(output.split())
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "--labels or --class: the network needs conditions [N, 3], got none"),
        (["--class=3"], "--class must be from 0 to 2, got 3"),
        (["--class=-1"], "--class must be from 0 to 2, got -1"),
        (["--labels=absent.npy"], "--labels absent.npy: no such file"),
    ],
)
def test_conditions_that_do_not_fit(conditional, options, reason):
    output = generate(f"--network={conditional}", "--seeds=0", "--outdir=x", *options, code=2)
    assert reason in " ".join(output.split())


def test_number_of_labels_must_fit(conditional, tmp_path):
    np.save(tmp_path / "c.npy", np.zeros((2, 3)))
    labels = f"--labels={tmp_path / 'c.npy'}"
    output = generate(f"--network={conditional}", "--seeds=0-2", labels, "--outdir=x", code=2)
    assert "1 or 3 rows for 3 samples, got 2" in " ".join(output.split())


def test_hostile_snapshots_are_named(tmp_path):
    path = tmp_path / "network.pkl"
    path.write_bytes(b"\x80\x04cposix\nsystem\n.")
    output = generate(f"--network={path}", "--seeds=0", f"--outdir={tmp_path / 'out'}", code=2)
    assert "network.pkl" in output
    assert "posix.system" in " ".join(output.split())
    assert not (tmp_path / "out").exists()


def test_outdir_that_is_a_file(network, tmp_path):
    (tmp_path / "out").write_text("mine")
    output = generate(f"--network={network}", "--seeds=0", f"--outdir={tmp_path / 'out'}", code=2)
    assert "--outdir" in output
    assert (tmp_path / "out").read_text() == "mine"


# Published snapshots


def test_golden_images(tmp_path):
    golden = read_shared("networks_dual_cond_32")
    np.save(tmp_path / "z.npy", golden["z"])
    np.save(tmp_path / "c.npy", golden["c"])
    options = [f"--latents={tmp_path / 'z.npy'}", f"--labels={tmp_path / 'c.npy'}"]
    options += ["--truncation=0.5", "--truncation-cutoff=4", "--raw", f"--outdir={tmp_path}"]
    generate(f"--network={SHARED / 'snapshot_dual_cond_32.pkl'}", "--device=cpu", *options)
    with np.load(tmp_path / "images.npz") as raw:
        assert_golden(raw["rgb"], golden["img"])
        assert_golden(raw["nir"], golden["nir"])


def test_conditions_drawn_from_identity_features(tmp_path):
    features = {f"{i}_0.png": [i + 1.0, 2.0, -1.0] for i in range(5)}
    (tmp_path / "features.json").write_text(json.dumps(features))
    options = GenerationOptions(
        network=Path("net.pkl"), outdir=tmp_path, labels=tmp_path / "features.json", seeds=(0,)
    )
    names = [f"seed{seed:04d}" for seed in range(40)]
    rows = read_conditions(options, 3, names, 4.0)
    assert rows.norm(dim=1).tolist() == pytest.approx([4.0] * 40)
    directions = np.array([np.array(v) / np.linalg.norm(v) for v in features.values()])
    cosines = (rows.numpy() / 4) @ directions.T
    assert cosines.max(axis=1) == pytest.approx(np.ones(40), abs=1e-6)
    assert set(cosines.argmax(axis=1)) == set(range(5))
    part = read_conditions(options, 3, names[7:9], 4.0)
    assert torch.equal(part, rows[7:9])
    raw = read_conditions(options, 3, names, None)
    assert {tuple(row) for row in raw.tolist()} == {tuple(v) for v in features.values()}
    with pytest.raises(ValueError, match=r"features.json: .* \[N, 5\], got \[5, 3\]"):
        read_conditions(options, 5, names, 4.0)
