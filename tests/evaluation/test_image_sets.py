import json

import numpy as np
import pytest
from PIL import Image

from evaluation.embeddings import embed_images
from evaluation.image_sets import open_image_set
from tests.helpers.images import random_pixels, truncate, write_image, write_pairs, zip_folder


def grey(seed):
    return random_pixels(seed, channels=1)


def write_mask(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def test_pairs_with_masks(tmp_path):
    root = write_pairs(tmp_path / "set")
    write_mask(root / "masks" / "1_0.png", np.full((16, 16), 3))
    images = open_image_set(root)
    assert images.name == "set"
    assert images.stems == ("1_0", "1_1", "2_0", "2_1")
    assert images.people == ("1", "1", "2", "2")
    assert images.num_people == 2
    assert (images.image("nir", 1) == grey(1001)[None]).all()
    assert images.mask(0).tolist() == np.full((16, 16), 3).tolist()
    assert images.mask(1) is None


def test_archives_are_read(tmp_path):
    archive = zip_folder(write_pairs(tmp_path / "set"), tmp_path / "set.zip", top="set/")
    images = open_image_set(archive)
    assert (images.image("rgb", 2) == random_pixels(2).transpose(2, 0, 1)).all()


def test_folders_of_people(tmp_path):
    for person in (0, 1):
        for sample in (0, 1):
            folder = tmp_path / f"id_{person}"
            write_image(folder / "VIS" / f"sample_{sample}_VIS.png", random_pixels(person))
            write_image(folder / "NIR" / f"sample_{sample}_NIR.png", grey(person))
        write_image(tmp_path / f"id_{person}_samples_VIS.png", random_pixels(9))
    images = open_image_set(tmp_path)
    assert images.people == ("id_0", "id_0", "id_1", "id_1")
    assert images.stems[0] == "id_0/sample_0"
    assert images.files["nir"][3] == "id_1/NIR/sample_1_NIR.png"


def test_flat_folders_of_generated_samples(tmp_path):
    for i in (0, 1):
        write_image(tmp_path / f"{i}_RGB.png", random_pixels(i))
        write_image(tmp_path / f"{i}_NIR.png", grey(i))
        write_image(tmp_path / f"{i}_uncertainty.png", grey(i))
        write_mask(tmp_path / f"image_{i}_label.png", np.zeros((16, 16)))
        write_image(tmp_path / "vis" / f"vis_{i}.png", random_pixels(i))
    write_image(tmp_path / "grid.png", random_pixels(5))
    images = open_image_set(tmp_path)
    assert images.stems == ("0", "1")
    assert images.people == ("0", "1")
    assert images.masks == ("image_0_label.png", "image_1_label.png")


def test_rgb_alone(tmp_path):
    write_image(tmp_path / "a_1.jpg", random_pixels(0))
    images = open_image_set(tmp_path)
    assert list(images.files) == ["rgb"]
    assert images.people == ("a",)


def manifest(folder, *rows):
    path = folder / "manifest.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def row(i, **more):
    names = {"rgb": f"{i}_VIS.png", "nir": f"{i}_NIR.png"}
    return {"files": {kind: {"name": name} for kind, name in names.items()}, **more}


def test_manifests(tmp_path):
    write_image(tmp_path / "0_VIS.png", random_pixels(0))
    path = manifest(tmp_path, row(0, identity=7), row(1))
    for given in (path, tmp_path):
        images = open_image_set(given)
        assert images.people == ("id_7", "1")
        assert images.files["nir"] == ("0_NIR.png", "1_NIR.png")
    assert images.image("rgb", 0).shape == (3, 16, 16)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], "manifest.jsonl.*line 1"),
        ([row(0), {"identity": 1}], "line 2: no names of files"),
        ([{"files": {"rgb": {"name": "../../etc/x.png"}}}], "is outside of the folder"),
        ([{"files": {"rgb": {"name": "/etc/x.png"}}}], "is outside of the folder"),
        ([{"files": {"rgb": 5}}], "line 1: no names of files"),
        (
            [row(0), {"files": {"rgb": {"name": "1"}}}],
            "line 2: expected files of rgb, nir, got rgb",
        ),
        ([], "names no samples"),
    ],
)
def test_damaged_manifests(tmp_path, rows, message):
    manifest(tmp_path, *rows)
    with pytest.raises(ValueError, match=message):
        open_image_set(tmp_path)


def test_folders_without_images(tmp_path):
    with pytest.raises(ValueError, match="no images in it"):
        open_image_set(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_image_set(tmp_path / "absent")


def test_missing_partners_are_named(tmp_path):
    write_image(tmp_path / "0_RGB.png", random_pixels(0))
    write_image(tmp_path / "0_NIR.png", grey(0))
    write_image(tmp_path / "1_RGB.png", random_pixels(0))
    with pytest.raises(ValueError, match="1 samples are not there in all of rgb, nir: 1"):
        open_image_set(tmp_path)
    write_image(tmp_path / "0_VIS.png", random_pixels(0))
    with pytest.raises(ValueError, match="are both the rgb of '0'"):
        open_image_set(tmp_path)


def test_masks_must_be_class_numbers(tmp_path):
    root = write_pairs(tmp_path)
    write_image(root / "masks" / "1_0.png", random_pixels(0))
    with pytest.raises(ValueError, match="must be an indexed or grey PNG, got mode RGB"):
        open_image_set(root).mask(0)
    truncate(root / "masks" / "1_0.png")
    with pytest.raises(ValueError, match="1_0.png: not a PNG mask"):
        open_image_set(root).mask(0)


# Embeddings


def means(images):
    return images.float().flatten(2).mean(2)


def test_embeddings_are_of_the_sets_images_in_order(tmp_path):
    images = open_image_set(write_pairs(tmp_path))
    seen = []
    found = embed_images(images, "rgb", means, seen.append)
    assert found.vectors[1] * 255 == pytest.approx(
        255 * (m := random_pixels(1).mean((0, 1))) / np.linalg.norm(m), abs=0.01
    )
    assert sum(seen) == 4


def test_damaged_images_and_refused_faces_are_counted(tmp_path):
    root = write_pairs(tmp_path)
    truncate(root / "VIS" / "1_1.png")

    def embed(images):
        rows = means(images)
        rows[0] = float("nan")
        return rows

    images = open_image_set(root)
    found = embed_images(images, "rgb", embed)
    assert found.is_enrolled.tolist() == [False, False, True, True]
    names = [name.rsplit("/", 1)[1] for name, _ in found.failures]
    assert sorted(names) == ["1_0.png", "1_1.png"]
    assert found.enrolled().images.stems == ("2_0", "2_1")
    with pytest.raises(ValueError, match="no image could be enrolled"):
        embed_images(images, "rgb", lambda x: means(x) * float("nan")).enrolled()


def test_an_absent_modality_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no thermal images"):
        embed_images(open_image_set(write_pairs(tmp_path)), "thermal", means)
