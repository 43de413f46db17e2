"""Which files of a folder are one sample."""

import json

import pytest

from data.grouping import group_images
from data.placing import place_file
from tests.helpers.images import random_pixels, write_image


def make(folder, *names):
    for index, name in enumerate(names):
        write_image(folder / name, random_pixels(index))
    return folder


def shown(groups):
    return {group.name: (group.images, group.others) for group in groups}


def test_pairs_of_a_data_set(tmp_path):
    names = [f"{place}/1_{i}.png" for place in ("VIS", "NIR", "masks") for i in range(2)]
    assert shown(group_images(make(tmp_path, *names))) == {
        f"1_{i}": ({"rgb": f"VIS/1_{i}.png", "nir": f"NIR/1_{i}.png"}, [f"masks/1_{i}.png"])
        for i in range(2)
    }


def test_people_in_folders(tmp_path):
    names = [f"id_{k}/{p}/sample_0_{p}.png" for k in (0, 1) for p in ("VIS", "NIR")]
    assert shown(group_images(make(tmp_path, *names))) == {
        f"id_{k}/sample_0": (
            {"rgb": f"id_{k}/VIS/sample_0_VIS.png", "nir": f"id_{k}/NIR/sample_0_NIR.png"},
            [],
        )
        for k in (0, 1)
    }


def test_plain_folders_and_endings(tmp_path):
    make(tmp_path, "a.jpg", "sub/b.png", "seed1_RGB.png", "seed1_NIR.png", "c_NIR.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert shown(group_images(tmp_path)) == {
        "a": ({"rgb": "a.jpg"}, []),
        "c": ({"nir": "c_NIR.png"}, []),
        "seed1": ({"rgb": "seed1_RGB.png", "nir": "seed1_NIR.png"}, []),
        "sub/b": ({"rgb": "sub/b.png"}, []),
    }


def test_a_manifest_says_what_belongs_together(tmp_path):
    make(tmp_path, "0_RGB.png", "0_NIR.png", "image_0_label.png", "grid.png")
    files = {"rgb": "0_RGB.png", "nir": "0_NIR.png", "label": "image_0_label.png"}
    entry = {"index": 0, "files": {kind: {"name": name} for kind, name in files.items()}}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(entry) + "\n")
    (group,) = group_images(tmp_path)
    assert group.images == {"rgb": "0_RGB.png", "nir": "0_NIR.png"}
    assert group.others == ["image_0_label.png"]
    assert group.entry == entry


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}\n", "line 1: no names of files"),
        ('{"files": {"rgb": {"name": "../a.png"}}}\n', "line 1: '../a.png' is outside"),
        ('{"files": {"rgb": {"name": "/etc/a.png"}}}\n', "is outside of the folder"),
        ("{\n", r"manifest\.jsonl: not valid JSON, line 1"),
        ("", "names no samples"),
    ],
)
def test_bad_manifests_are_refused(tmp_path, content, message):
    make(tmp_path, "a.png")
    (tmp_path / "manifest.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        group_images(tmp_path)


def test_nothing_to_filter_is_said(tmp_path):
    with pytest.raises(ValueError, match="no images in it"):
        group_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone: no such folder"):
        group_images(tmp_path / "gone")


# Placing


def test_a_link_shares_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    assert place_file(tmp_path / "a", tmp_path / "sub" / "b")
    assert (tmp_path / "sub" / "b").samefile(tmp_path / "a")
    assert place_file(tmp_path / "a", tmp_path / "sub" / "b")


def test_a_copy_where_links_are_impossible(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "a").write_bytes(b"content")
    assert not place_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"
    assert not (tmp_path / "b").samefile(tmp_path / "a")
