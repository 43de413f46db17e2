"""Small refiners and data sets for the tests of refinement."""

import numpy as np
import torch
from PIL import Image

from data.dataset import PairDataset
from data.modalities import choose_modalities
from dnnlib.runs import OPTIONS_FILE, find_output
from refinement.images import JointImages
from refinement.model_files import save_refiner
from refinement.networks import Refiner, RefinerConfig
from refinement.options import RefinementConfig
from refinement.task import RefinementTask
from tests.helpers.images import write_image, write_json, write_pairs
from torch_utils.trainer import Cadence, train

CPU = torch.device("cpu")
SIDE = 16
RENDERED = ("1_0", "1_1", "2_0", "2_1")
REAL = ("a_0", "a_1", "b_0", "b_1", "c_0")
CLASSES = [{"name": "back", "color": [0, 0, 0]}, {"name": "face", "color": [9, 9, 9]}]


def small_config(**changes):
    defaults = {
        "width": 4,
        "blocks": 1,
        "patch_width": 0.1,
        "steps": 4,
        "discriminator_warmup": 2,
        "refiner_warmup": 1,
        "batch": 4,
        "history": 5,
        "lr": 0.01,
        "discriminator_lr": 0.01,
    }
    return RefinementConfig(**{**defaults, **changes})


def write_masks(root, stems=RENDERED, size=SIDE):
    """Left half class 0, right half class 1, and the classes' names."""
    mask = np.zeros((size, size), np.uint8)
    mask[:, size // 2 :] = 1
    for stem in stems:
        write_image(root / "masks" / f"{stem}.png", mask)
    write_json(root / "dataset_info.json", {"classes": CLASSES, "face_check": "none"})
    return root


def write_rendered(root, stems=RENDERED):
    return write_masks(write_pairs(root, stems), stems)


def write_real(root, **options):
    """Pairs that are much darker than the rendered ones."""
    write_pairs(root, REAL, **options)
    for path in root.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 4).save(path)
    return root


def joint(root, modalities=("rgb", "nir")):
    return JointImages(PairDataset.open(root), modalities)


def run(rendered, real, config, outdir, snap=3, progress=None, **options):
    """Train in a folder; return the task and its folder's record."""
    task = RefinementTask(rendered, real, config, CPU, **options)
    output = find_output(outdir, OPTIONS_FILE, {}, fresh=False)
    cadence = Cadence(row_steps=snap, checkpoint_minutes=0)
    return task, train(task, output, cadence, progress=progress)


def save_random_refiner(path, modalities=("rgb", "nir"), scale=0.3):
    """A refiner whose last layer does something."""
    chosen = choose_modalities(modalities)
    torch.manual_seed(0)
    refiner = Refiner(RefinerConfig(channels=sum(m.channels for m in chosen), width=4, blocks=1))
    with torch.no_grad():
        refiner.last.weight.normal_(std=scale)
    save_refiner(path, refiner, chosen)
    return path
