"""The .bin of a data set's own pairs: what is chosen, written, read again and warned of."""

import io

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from biometrics.alignment import template_points
from biometrics.faces import Face
from data.samples import open_samples
from evaluation.pair_archive import choose_pairs
from evaluation.pairs import check_pairs, describe_misalignment, read_pair_archive, read_pair_list
from prepare_dataset import main
from tests.helpers.images import random_pixels, truncate, write_pairs

STEMS = [f"{p}_{i}" for p in range(24) for i in range(3)]


def test_no_identity_is_in_two_folds():
    identities = [stem.partition("_")[0] for stem in STEMS]
    folds = choose_pairs(identities, 60, seed=0)
    assert [(len(a), len(b)) for a, b in folds] == [(3, 3)] * 10
    seen = set()
    for mated, non_mated in folds:
        assert all(identities[i] == identities[j] and i != j for i, j in mated)
        assert all(identities[i] != identities[j] for i, j in non_mated)
        assert len({*mated, *non_mated}) == 6
        own = {identities[i] for pair in (*mated, *non_mated) for i in pair}
        assert not own & seen
        seen |= own
    assert folds == choose_pairs(identities, 60, seed=0) != choose_pairs(identities, 60, seed=1)


def test_identities_of_many_images():
    folds = choose_pairs([str(p) for p in range(20) for _ in range(2000)], 60, seed=0)
    assert [(len(a), len(b)) for a, b in folds] == [(3, 3)] * 10


@pytest.mark.parametrize("identities", [["a", "b"] * 9, list("abcdefghijklmnopqrstuvwxyz")])
def test_too_few_identities_or_images(identities):
    with pytest.raises(ValueError, match="ten? folds|10 folds.*two identities each"):
        choose_pairs(identities, 100, seed=0)


class TestFile:
    @pytest.fixture
    def folder(self, tmp_path):
        return write_pairs(tmp_path / "data", STEMS)

    def run(self, folder, *arguments, code=0):
        out = folder.parent / "own.bin"
        line = ["bin", f"--data={folder}", f"--out={out}", "--size=32", "--pairs=60", *arguments]
        result = CliRunner().invoke(main, line)
        assert result.exit_code == code, result.output
        return out

    @pytest.mark.parametrize("modality", ["rgb", "nir"])
    def test_both_files_say_the_same(self, folder, modality):
        out, samples = self.run(folder, f"--modality={modality}"), open_samples(folder)
        images, is_same = read_pair_archive(out)
        pairs = read_pair_list(out.with_suffix(".csv"))
        check_pairs(pairs, samples, out)
        assert (
            [pair.is_same for pair in pairs] == is_same.tolist() == ([True] * 3 + [False] * 3) * 10
        )
        for pair, first, second in zip(pairs, images[::2], images[1::2], strict=True):
            for (kind, stem), content in ((pair.first, first), (pair.second, second)):
                assert kind == modality
                original = samples.image(kind, samples.stems.index(stem)).transpose(1, 2, 0)
                shown = Image.fromarray(np.repeat(original, 3 // original.shape[2], 2))
                expected = np.asarray(shown.resize((32, 32), Image.Resampling.LANCZOS))
                assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), expected)
        before = out.read_bytes()
        assert self.run(folder, f"--modality={modality}", "--fresh").read_bytes() == before

    @pytest.mark.parametrize("name", ["own.bin", "own.csv"])
    def test_files_that_are_there_are_kept(self, folder, name):
        (folder.parent / name).write_text("mine")
        self.run(folder, code=2)
        assert [path.name for path in folder.parent.iterdir() if path.is_file()] == [name]
        assert (folder.parent / name).read_text() == "mine"

    def test_damaged_images_are_left_out(self, folder):
        truncate(folder / "VIS" / "3_1.png")
        images, is_same = read_pair_archive(self.run(folder))
        assert 0 < len(is_same) < 60
        assert len(images) == 2 * len(is_same)

    def test_bad_options_write_nothing(self, folder):
        self.run(folder, "--out=own.rec", code=2)
        out = self.run(folder, f"--data={folder / 'absent'}", code=2)
        assert not out.exists()


class Landmarks:
    """A detector that finds every face's landmarks at one shift from the template."""

    def __init__(self, shift, every=1):
        self.shift, self.every = shift, every

    def detect(self, images):
        points = template_points(32) + [self.shift, 0]
        face = Face(box=np.array([0.0, 0, 32, 32]), probability=1.0, landmarks=points)
        return [(face,) if i % self.every == 0 else () for i in range(len(images))]


class TestAlignment:
    def files(self, *sizes):
        found = []
        for seed, (width, height) in enumerate(sizes):
            with io.BytesIO() as file:
                Image.fromarray(random_pixels(seed, 32)).resize((width, height)).save(file, "PNG")
                found.append(file.getvalue())
        return found

    def test_sizes(self):
        assert "32x40" in describe_misalignment(self.files((32, 40)), "x", None)
        assert "32x32, 48x48" in describe_misalignment(self.files((32, 32), (48, 48)), "x", None)
        assert describe_misalignment(self.files((32, 32)), "x", None) is None

    def test_landmarks(self):
        images = self.files(*[(32, 32)] * 4)
        assert "9% of the width" in describe_misalignment(images, "x", Landmarks(3))
        assert describe_misalignment(images, "x", Landmarks(1)) is None
        # Images of eyes: nothing can be said.
        assert describe_misalignment(images, "x", Landmarks(3, every=4)) is None
