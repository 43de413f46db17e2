import shutil
import zipfile

import pytest

from data import pairs
from data.storage import open_storage
from tests.helpers.images import random_pixels, write_image, write_pairs, zip_folder

STEMS = ["1_0", "1_1", "2_0", "2_1"]


def read_all(source):
    content = {}
    for i, stem in enumerate(source.stems):
        for modality in source.files:
            with source.open(modality, i) as file:
                content[stem, modality] = file.read()
    return content


def test_folders_vis_and_nir(tmp_path):
    root = write_pairs(tmp_path / "faces")
    source = pairs.open_pairs(root)
    assert list(source.stems) == STEMS
    assert source.name == "faces"
    assert source.describe("nir", 2) == str(root / "NIR" / "2_0.png")
    for (stem, modality), content in read_all(source).items():
        folder = {"rgb": "VIS", "nir": "NIR"}[modality]
        assert content == (root / folder / f"{stem}.png").read_bytes()
        assert source.size(modality, STEMS.index(stem)) == len(content)


@pytest.mark.parametrize("given", ["", "images", "images/", "NIR/../images//"])
def test_images_with_sibling_nir(tmp_path, given):
    write_pairs(tmp_path / "eyes", rgb="images")
    source = pairs.open_pairs(f"{tmp_path}/eyes/{given}")
    assert list(source.stems) == STEMS
    assert source.name == "eyes"


def test_folder_of_any_name_beside_nir(tmp_path, monkeypatch):
    write_pairs(tmp_path / "x", rgb="colour")
    assert len(pairs.open_pairs(tmp_path / "x" / "colour")) == 4
    monkeypatch.chdir(tmp_path / "x" / "colour")
    assert pairs.open_pairs(".").name == "x"


@pytest.mark.parametrize("top", ["", "faces/"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("rgb", ["VIS", "images"])
def test_archives(tmp_path, top, compression, rgb):
    root = write_pairs(tmp_path / "faces", rgb=rgb)
    archive = zip_folder(root, tmp_path / "my.set.zip", top, compression)
    source = pairs.open_pairs(archive)
    assert source.name == "my.set"
    assert read_all(source) == read_all(pairs.open_pairs(root))
    assert source.describe("rgb", 0) == f"{archive}:{top}{rgb}/1_0.png"
    assert source.size("rgb", 0) == (root / rgb / "1_0.png").stat().st_size


def test_archive_with_windows_separators(tmp_path):
    root = write_pairs(tmp_path / "faces")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in root.rglob("*.png"):
            info = zipfile.ZipInfo("x")
            info.filename = f"faces\\{path.parent.name}\\{path.name}"
            file.writestr(info, path.read_bytes())
    assert list(pairs.open_pairs(tmp_path / "a.zip").stems) == STEMS


def test_subfolders_and_mixed_endings(tmp_path):
    for folder, suffix in (("VIS", "jpg"), ("NIR", "PNG")):
        for stem in ("b/1.v2", "a/1.v2", "10"):
            write_image(tmp_path / folder / f"{stem}.{suffix}", random_pixels(0))
    source = pairs.open_pairs(tmp_path)
    assert list(source.stems) == ["10", "a/1.v2", "b/1.v2"]
    assert list(source.files["nir"]) == [f"nir/{stem}.PNG" for stem in source.stems]


def test_files_that_are_no_images_are_left_alone(tmp_path):
    root = write_pairs(tmp_path / "faces")
    for name in ("Thumbs.db", "dataset.json", "notes.txt", ".hidden.png", "._1_0.png"):
        (root / "VIS" / name).write_text("x")
    (root / "NIR" / ".cache").mkdir()
    write_image(root / "NIR" / ".cache" / "1_9.png", random_pixels(0))
    assert list(pairs.open_pairs(root).stems) == STEMS
    archive = zip_folder(root, tmp_path / "a.zip", "faces/")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("__MACOSX/faces/VIS/._1_0.png", b"")
    assert list(pairs.open_pairs(archive).stems) == STEMS


def test_linked_folders_are_followed_once(tmp_path):
    root = write_pairs(tmp_path / "faces")
    shutil.move(root / "NIR", tmp_path / "elsewhere")
    (root / "NIR").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    assert list(pairs.open_pairs(root).stems) == STEMS


def test_pairs_are_matched_by_name_and_missing_partners_counted(tmp_path):
    write_pairs(tmp_path, [f"{i:02}" for i in range(9)])
    (tmp_path / "VIS" / "00.png").unlink()
    for number in range(1, 9):
        (tmp_path / "NIR" / f"0{number}.png").unlink()
    message = (
        r"VIS: 8 rgb image\(s\) .*NIR: 01.png, 02.png, 03.png, 04.png, 05.png and 3 more; "
        r".*NIR: 1 nir image\(s\) .*VIS: 00.png$"
    )
    with pytest.raises(ValueError, match=message):
        pairs.open_pairs(tmp_path)


@pytest.mark.parametrize(
    ("present", "given", "message"),
    [
        (["VIS/1.png"], "", "expected the folders VIS and NIR .*folders in it: VIS"),
        (["1.png"], "", "expected the folders VIS and NIR .*folders in it: none"),
        (["images/1.png", "NIR/1.png"], "NIR", "expected the folders VIS and NIR"),
        (["images/1.png", "VIS/1.png", "NIR/1.png"], "", "holds VIS and images, both for rgb"),
        (["VIS/notes.txt", "NIR/1.png"], "", r"VIS: no images in it \(1 files\)"),
        (["VIS/1.png", "NIR/notes.txt"], "VIS", r"NIR: no images in it \(1 files\)"),
    ],
)
def test_other_layouts_are_refused(tmp_path, present, given, message):
    for name in present:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=message):
        pairs.open_pairs(tmp_path / given)


def test_places_that_are_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone: no such folder or zip archive"):
        pairs.open_pairs(tmp_path / "gone")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(ValueError, match="text.zip: neither a folder nor a whole zip archive"):
        pairs.open_pairs(tmp_path / "text.zip")
    archive = zip_folder(write_pairs(tmp_path / "faces"), tmp_path / "cut.zip")
    archive.write_bytes(archive.read_bytes()[:500])
    with pytest.raises(ValueError, match="cut.zip: neither a folder nor a whole zip archive"):
        pairs.open_pairs(archive)


@pytest.mark.parametrize("member", ["VIS/../../evil.png", "/VIS/a.png", "C:\\VIS\\a.png"])
def test_members_that_leave_the_archive_are_refused(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(member, b"x")
    with pytest.raises(ValueError, match="a.zip: member names must stay in the archive"):
        pairs.open_pairs(tmp_path / "a.zip")


def test_damaged_member_is_named(tmp_path):
    archive = zip_folder(write_pairs(tmp_path / "faces"), tmp_path / "a.zip")
    content = bytearray(archive.read_bytes())
    content[60:70] = bytes(10)
    archive.write_bytes(content)
    source = pairs.open_pairs(archive)
    with pytest.raises(ValueError, match="a.zip:NIR/1_0.png: cannot be read from the zip archive"):
        source.open("nir", 0)


def test_storage_describes_itself(tmp_path):
    archive = zip_folder(write_pairs(tmp_path / "faces"), tmp_path / "a.zip", "top/")
    storage = open_storage(archive)
    assert (storage.name, storage.describe(), storage.folders()) == ("a", str(archive), ["top"])
    below = storage.enter("top").enter("VIS")
    assert (below.name, below.exists("1_0.png"), below.exists("x")) == ("VIS", True, False)
    assert below.names() == [f"{stem}.png" for stem in STEMS]
