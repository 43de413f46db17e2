"""Small generators, annotated folders and trained ensembles for the interpreter's tests."""

import json

import numpy as np
from click.testing import CliRunner
from PIL import Image

import make_training_data
import preprocess_annotations
from interpreter.ensemble import ensemble_from_states, save_models
from networks.snapshot import Snapshot, capture, save_snapshot
from tests.helpers.networks import random_network, small_generator_config
from tests.helpers.pixel_classifiers import plain_classifier, published_state

CLASSES = 3
CLASS_LIST = [
    {"name": "a", "color": [0, 0, 0]},
    {"name": "b", "color": [255, 0, 0]},
    {"name": "c", "color": [0, 255, 0]},
]


def small_generator(seed=0, **changes):
    return random_network(small_generator_config(**changes), seed).eval().requires_grad_(False)


def save_small_snapshot(path, seed=0, **changes):
    """A 16x16 generator as G_ema, and another one as G."""
    networks = {
        "G": capture(small_generator(seed + 1, **changes)),
        "G_ema": capture(small_generator(seed, **changes)),
    }
    save_snapshot(path, Snapshot(networks=networks))
    return path


def small_ensemble(features, members=2, classes=CLASSES, seed=0):
    seeds = range(10 * seed, 10 * seed + members)
    plain = [plain_classifier(features, (8, 6), classes, seed=s) for s in seeds]
    return ensemble_from_states([published_state(layers) for layers in plain], "here")


def save_small_models(folder, features, members=2):
    save_models(folder, small_ensemble(features, members), batches=3)
    return folder


def paint_masks(folder, numbers, side=16, classes=CLASSES):
    """Indexed PNGs of random blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        blocks = np.random.default_rng(number).integers(0, classes, [4, 4], np.uint8)
        mask = np.kron(blocks, np.ones([side // 4, side // 4], np.uint8))
        Image.fromarray(mask).save(folder / f"image_{number}_mask.png")
    return folder


def write_workshop(folder, **changes):
    """Write exp.json, a snapshot, its images with masks, and the folder to train from."""
    save_small_snapshot(folder / "net.pkl")
    experiment = {
        "exp_dir": str(folder),
        "stylegan_checkpoint": "net.pkl",
        "annotation_mask_path": "processed",
        "annotation_image_latent_path": "processed/latent_stylegan.npy",
        "model_num": 2,
        "max_steps": 20,
        "evaluate_every": 10,
        "min_region_pixels": 0,
        "max_training": 3,
        **changes,
    }
    (folder / "exp.json").write_text(json.dumps(experiment))
    (folder / "classes.json").write_text(json.dumps(CLASS_LIST))
    for script, line in (
        (make_training_data, ("--exp", folder / "exp.json", "--sv_path", folder / "drawn",
                              "--num_sample", 6, "--select", 2)),
        (preprocess_annotations, ("--annotations", paint_masks(folder / "painted", [4, 0, 2]),
                                  "--drawn", folder / "drawn", "--outdir", folder / "processed",
                                  "--classes", folder / "classes.json")),
    ):  # fmt: skip
        result = CliRunner().invoke(script.main, [str(argument) for argument in line])
        assert result.exit_code == 0, result.output
    return folder


def read_tree(folder):
    """All files of a folder but locks, by relative name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
