"""Tiny networks and training people, and generate_recognition_data.py run on them."""

import json

import numpy as np
import torch
from click.testing import CliRunner

import generate_recognition_data
from biometrics.embedding import load_embedder
from data.pixels import decode_image
from tests.helpers.people import save_recogniser, save_varied_snapshot, write_people

IDS, SAMPLES = 4, 4
LIMITS = {"privacy": 0.999, "same-identity": 0.5, "too-similar": 0.9999}


def write_shop(folder):
    """Write networks, training people, and one data set."""
    save_recogniser(folder / "rec.pth")
    save_varied_snapshot(folder / "net.pkl")
    write_people(folder / "data", folder / "rec.pth", people=8)
    run(folder, "--outdir", folder / "out")
    return folder


def arguments(shop, *more, **changes):
    values = {
        "gen_model": shop / "net.pkl",
        "rec_model": shop / "rec.pth",
        "training_ids": shop / "data" / "identity_features.json",
        "ids": IDS,
        "samples_per_id": SAMPLES,
        "truncation": 1,
        "device": "cpu",
        **LIMITS,
        **changes,
    }
    values["max-attempts"] = values.pop("max_attempts", None)
    given = [f"--{name}={value}" for name, value in values.items() if value is not None]
    return [*given, *map(str, more)]


def run(shop, *more, code=0, **changes):
    line = arguments(shop, *more, **changes)
    result = CliRunner().invoke(generate_recognition_data.main, line)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def embed_files(shop, folder, kind):
    entries = lines(folder / "manifest.jsonl")
    channels = {"rgb": 3, "nir": 1}[kind]
    images = [decode_image(folder / e["files"][kind]["name"], channels) for e in entries]
    embedder = load_embedder(shop / "rec.pth")
    return entries, embedder.embed(torch.from_numpy(np.stack(images))).numpy()
