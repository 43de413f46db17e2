"""evaluate.py compare: two images, two folders, thresholds."""

import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from biometrics.embedding import Embedder, load_embedder
from data.samples import open_samples
from evaluate import main
from tests.helpers.images import random_pixels, truncate, write_image, write_pairs
from tests.helpers.people import SIDE, save_recogniser


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    save_recogniser(folder / "r.pth")
    write_pairs(folder / "a", [f"{p}_{i}" for p in range(3) for i in range(2)], size=SIDE)
    for k in range(2):
        write_image(folder / "b" / f"x{k}.png", random_pixels(50 + k, SIDE))
    return folder


def run(places, *arguments, code=0):
    line = ["compare", *map(str, arguments), f"--rec-model={places / 'r.pth'}", "--device=cpu"]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == code, result.output
    return result.output


def vectors(places, name):
    samples = open_samples(places / name, is_complete=False)
    embedder = load_embedder(places / "r.pth")
    images = np.stack([samples.image("rgb", i) for i in range(len(samples))])
    return embedder.embed(torch.from_numpy(images)).numpy()


def test_two_images(places):
    output = run(places, places / "b/x0.png", places / "b/x1.png")
    first, second = vectors(places, "b")
    assert float(re.search(r"cosine (\S+):", output)[1]) == pytest.approx(first @ second, abs=1e-4)
    assert "without --thresholds" in output


@pytest.mark.parametrize(("cosine", "verdict"), [(0.9999, "reached: taken"), (1, "not reached")])
def test_what_a_threshold_means(places, cosine, verdict):
    second = "b/x0.png" if cosine < 1 else "b/x1.png"
    output = run(places, places / "b/x0.png", places / second, f"--threshold=0.001:{cosine}")
    assert verdict in output


def test_folders(places):
    output = run(places, places / "a", places / "b", "--threshold=0.01:0", "--threshold=0.001:-1")
    cosines = vectors(places, "a") @ vectors(places, "b").T
    assert output.startswith("12 comparisons")
    assert f"{(cosines >= 0).sum()} of 12" in output
    assert "12 of 12" in output
    assert f"{cosines.max():.4f}" in output


@pytest.mark.parametrize("spelling", ["a", "b/../a", "link"])
def test_a_folder_with_itself(places, spelling, monkeypatch):
    if spelling == "link":
        (places / "link").symlink_to("a")
    counts = []
    original = Embedder.embed_aligned
    monkeypatch.setattr(
        Embedder, "embed_aligned", lambda self, x: counts.append(len(x)) or original(self, x)
    )
    output = run(places, places / "a", places / spelling)
    assert counts == [6]
    monkeypatch.undo()
    cosines = vectors(places, "a") @ vectors(places, "a").T
    assert output.startswith("15 comparisons")
    assert f"{cosines[np.triu_indices(6, 1)].max():.4f}" in output


def test_images_that_cannot_be_read_are_named(places, tmp_path, caplog):
    for k in range(3):
        write_image(tmp_path / f"y{k}.png", random_pixels(k, SIDE))
    truncate(tmp_path / "y1.png")
    assert run(places, tmp_path, places / "b").startswith("4 comparisons")
    assert re.search("1 of 3 rgb images are left out, y1 first: .*y1.png", caplog.text)


def test_damaged_and_absent_images(places, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    assert "x.png" in run(places, tmp_path / "x.png", places / "b/x0.png", code=2)
    assert "absent" in run(places, tmp_path / "absent", places / "b", code=2)
