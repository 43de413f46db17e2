"""Refined data sets: what changes, what stays, restart; refiner files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from data.dataset import PairDataset
from data.dataset_card import CARD_FILE
from data.pixels import to_float, to_uint8
from dnnlib.runs import find_output
from refinement.dataset_writer import RECORD, SHEET_FILE, RefinedDataset, find_parts
from refinement.model_files import MICRO_BATCH, load_refiner
from tests.helpers.images import random_pixels, write_image, write_json, write_pairs, zip_folder
from tests.helpers.refinement import CPU, save_random_refiner, write_masks, write_rendered

STEMS = tuple(f"{i:02d}_0" for i in range(MICRO_BATCH + 3))


@pytest.fixture
def refiner(tmp_path):
    return load_refiner(save_random_refiner(tmp_path / "refiner.pt"), CPU)


@pytest.fixture
def source(tmp_path):
    """Two micro-batches, a split, attributes, and files that tell of the images themselves."""
    root = write_rendered(tmp_path / "source", STEMS)
    write_json(root / "attributes.json", {stem: {"age": 3} for stem in STEMS})
    write_json(root / "identity_features.json", {})
    write_image(root / "contact_sheet.png", random_pixels(0))
    write_rendered(root / "heldout", ("90_0", "91_0"))
    return root


def write(source, refiner, outdir, progress=lambda _: None):
    dataset = RefinedDataset(source, refiner)
    output = find_output(outdir, RECORD, dataset.identity(), fresh=False)
    dataset.write(output, progress)
    return outdir


def contents(root):
    """All files but the record, which tells the time of nothing but the versions."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_images_are_the_refiners(source, refiner, tmp_path):
    out = write(source, refiner, tmp_path / "out")
    for folder, count in (("", len(STEMS)), ("heldout", 2)):
        before, after = PairDataset.open(source / folder), PairDataset.open(out / folder)
        assert list(before.stems) == list(after.stems)
        assert len(after) == count
        for i in range(count):
            x = torch.cat([before[i]["rgb"], before[i]["nir"]])
            y = torch.cat([after[i]["rgb"], after[i]["nir"]])
            with torch.no_grad():
                expected = to_uint8(refiner.network(to_float(x[None])))[0]
            assert (y.int() - expected.int()).abs().max() <= 1  # rounding of another batch size
            assert not torch.equal(x, y)


def test_labels_stay_and_what_tells_of_the_images_does_not(source, refiner, tmp_path):
    found, old = contents(write(source, refiner, tmp_path / "out")), contents(source)
    same = {name for name in found if found[name] == old.get(name)}
    masks = {name for name in old if "masks/" in name}
    assert len(masks) == len(STEMS) + 2
    assert same == masks | {"attributes.json"}
    images = {name for name in old if name.split("/")[-2:-1] in (["VIS"], ["NIR"])}
    assert set(found) == masks | images | {"attributes.json", RECORD, SHEET_FILE, CARD_FILE}


def test_record_says_where_it_comes_from(source, refiner, tmp_path):
    out = write(source, refiner, tmp_path / "out")
    record = json.loads((out / RECORD).read_text())
    old = json.loads((source / RECORD).read_text())
    assert record["finished"] is True
    assert record["classes"] == old["classes"]
    assert record["face_check"] == "none"
    assert record["source"] == {"name": "source", "info": old}
    assert record["identity"]["refiner_sha256"] == refiner.sha256
    assert record["pairs"] == len(STEMS) + 2


def test_kept_parts_stay_bit_by_bit(source, refiner, tmp_path):
    """The right halves are class 1, face."""
    free = write(source, refiner, tmp_path / "free")
    for name, keep in (("named", ["face"]), ("numbered", ["1"])):
        dataset = RefinedDataset(source, refiner, keep)
        output = find_output(tmp_path / name, RECORD, dataset.identity(), fresh=False)
        dataset.write(output, lambda _: None)
        for folder in ("", "heldout"):
            sets = [PairDataset.open(root / folder) for root in (source, free, tmp_path / name)]
            for before, changed, kept in zip(*sets, strict=True):
                for modality in ("rgb", "nir"):
                    assert torch.equal(kept[modality][..., 8:], before[modality][..., 8:])
                    assert torch.equal(kept[modality][..., :8], changed[modality][..., :8])
    with pytest.raises(ValueError, match=r"--keep fase: .*; did you mean 'face'\?"):
        RefinedDataset(source, refiner, ["fase"])


def test_other_modalities_stay(source, tmp_path):
    refiner = load_refiner(save_random_refiner(tmp_path / "nir.pt", ("nir",)), CPU)
    out = write(source, refiner, tmp_path / "out")
    before, after = PairDataset.open(source), PairDataset.open(out)
    for i in range(len(before)):
        assert torch.equal(before[i]["rgb"], after[i]["rgb"])
        assert not torch.equal(before[i]["nir"], after[i]["nir"])


def test_a_killed_writer_goes_on_with_the_same_bytes(source, refiner, tmp_path):
    whole = contents(write(source, refiner, tmp_path / "whole"))

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(source, refiner, tmp_path / "cut", stop)
    written = contents(tmp_path / "cut")
    assert len(written) == 2 * MICRO_BATCH + 1
    (tmp_path / "cut" / "NIR" / f"{STEMS[3]}.png").unlink()
    seen = []
    write(source, refiner, tmp_path / "cut", seen.append)
    assert contents(tmp_path / "cut") == whole
    assert sum(seen) == len(STEMS) + 2


def test_pixels_do_not_depend_on_the_number_of_images(refiner):
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, [MICRO_BATCH, 4, 16, 16], generator=random).byte()
    whole = refiner.refine(images)
    assert torch.equal(refiner.refine(images[:3]), whole[:3])


def test_archives_are_read(source, refiner, tmp_path):
    archive = zip_folder(source, tmp_path / "source.zip")
    assert find_parts(archive) == [""]
    out = write(archive, refiner, tmp_path / "out")
    folder = write(source, refiner, tmp_path / "other")
    for path in (folder / "VIS").iterdir():
        assert (out / "VIS" / path.name).read_bytes() == path.read_bytes()
    assert (out / "masks" / f"{STEMS[0]}.png").is_file()


def test_other_formats_keep_their_stems(refiner, tmp_path):
    source = write_pairs(tmp_path / "source", ("s1/1_0", "s1/1_1"), suffix=".jpg")
    out = write(source, refiner, tmp_path / "out")
    assert list(PairDataset.open(out).stems) == ["s1/1_0", "s1/1_1"]
    assert (out / "VIS" / "s1" / "1_0.png").is_file()


def test_sheet_shows_before_and_after(source, refiner, tmp_path):
    out = write(source, refiner, tmp_path / "out")
    with Image.open(out / SHEET_FILE) as image:
        sheet = np.asarray(image)
    # the first cell is the first image, 6 times as large
    assert np.array_equal(sheet[:96:6, :96:6], np.asarray(Image.open(source / "VIS/00_0.png")))
    assert np.array_equal(sheet[:96:6, 98:194:6], np.asarray(Image.open(out / "VIS/00_0.png")))


def test_refiner_files_are_checked(tmp_path, refiner):
    with pytest.raises(FileNotFoundError, match=r"none.pt: no such file"):
        load_refiner(tmp_path / "none.pt", CPU)
    path = tmp_path / "refiner.pt"
    content = torch.load(path, weights_only=True)
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(path.read_bytes()[:500])
    for changes, reason in (
        ({"format": "x"}, "not a biface-refiner of version 1, got format 'x'"),
        ({"modalities": ["nir"]}, r"4 channels do not fit \['nir'\]"),
        ({"state": {}}, "weights do not fit the network"),
        ({"config": {"channels": 4, "depth": 2}}, "unknown key 'depth'"),
    ):
        torch.save({**content, **changes}, tmp_path / "other.pt")
        with pytest.raises(ValueError, match=reason):
            load_refiner(tmp_path / "other.pt", CPU)
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_refiner(damaged, CPU)


def test_sources_are_checked(tmp_path, refiner):
    write_masks(tmp_path / "source")
    with pytest.raises(ValueError, match="expected the folders VIS and NIR"):
        RefinedDataset(tmp_path / "source", refiner)
