"""Tiny labelled data sets whose classes can be told by colour."""

import json
import math

import numpy as np
from PIL import Image

CLASSES = [
    {"name": "ground", "color": [0, 0, 0]},
    {"name": "left", "color": [200, 0, 0], "mirror": "right"},
    {"name": "right", "color": [0, 200, 0], "mirror": "left"},
]
COLOURS = np.array([[40, 40, 40], [220, 60, 60], [60, 60, 220]], np.uint8)


def random_mask(seed, size=16, classes=3):
    """[size, size] uint8: class 0 with a rectangle of each other class, apart."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.uint8)
    band = size // (classes - 1)
    for k in range(1, classes):
        x, y = rng.integers(0, band // 2, 2)
        mask[y : y + size // 2, (k - 1) * band + x : (k - 1) * band + x + band // 2] = k
    return mask


def picture_of(mask, seed=0):
    """RGB [H, W, 3] and NIR [H, W] uint8 that show the classes, with noise."""
    noise = np.random.default_rng(seed).integers(-20, 20, (*mask.shape, 3))
    rgb = np.clip(COLOURS[mask % len(COLOURS)] + noise, 0, 255).astype(np.uint8)
    return rgb, (mask * 60).astype(np.uint8)


def write_real(root, count=4, size=16, info=True, first=0):
    """Write VIS, NIR and indexed masks; two samples a person."""
    for i in range(first, first + count):
        mask = random_mask(i, size)
        images = dict(zip(("VIS", "NIR"), picture_of(mask, i), strict=True), masks=mask)
        for folder, pixels in images.items():
            path = root / folder / f"{i // 2}_{i % 2}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(pixels)
            if folder == "masks":
                image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
            image.save(path)
    if info:
        (root / "dataset_info.json").write_text(json.dumps({"classes": CLASSES}))
    return root


def write_generated(root, count=4, size=16):
    """Write what the interpreter writes; sample i has a score of i / count, certain where 0."""
    root.mkdir(parents=True)
    lines = []
    for i in range(count):
        mask = random_mask(100 + i, size)
        rgb, nir = picture_of(mask, i)
        uncertainty = mask.astype(np.uint16) * 20000
        names = {
            "rgb": (f"{i}_RGB.png", rgb),
            "nir": (f"{i}_NIR.png", nir),
            "label": (f"image_{i}_label.png", mask),
            "uncertainty": (f"{i}_uncertainty.png", uncertainty),
        }
        for name, pixels in names.values():
            Image.fromarray(pixels).save(root / name)
        files = {kind: {"name": name, "sha256": ""} for kind, (name, _) in names.items()}
        lines.append({"index": i, "score": i / count * math.log(3), "files": files})
    (root / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    palette = [entry["color"] for entry in CLASSES]
    info = {"samples": count, "classes": 3, "palette": palette, "finished": True}
    (root / "dataset_info.json").write_text(json.dumps(info))
    return root
