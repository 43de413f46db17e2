import numpy as np
import pytest

from data import labels
from data.dataset import PairDataset
from data.pairs import open_pairs
from tests.helpers.images import write_json, write_pairs, zip_folder

STEMS = ["1_0", "1_1", "2_0", "2_1"]
FEATURES = {stem: [i + 0.5, -i, 0.1] for i, stem in enumerate(STEMS)}
MATRIX = np.array(list(FEATURES.values()), dtype=np.float32)


def load(root):
    return labels.load_labels(open_pairs(root))


@pytest.mark.parametrize("key", ["{}.png", "{}", "{}.jpg", "VIS/{}.png", "VIS\\{}.png", "NIR/{}"])
def test_keys_of_identity_features(tmp_path, key):
    write_pairs(tmp_path)
    write_json(tmp_path / labels.IDENTITY_FILE, {key.format(s): FEATURES[s] for s in STEMS[::-1]})
    matrix = load(tmp_path)
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix, MATRIX)


@pytest.mark.parametrize("place", ["", "VIS/", "../faces"])
def test_places_of_identity_features(tmp_path, place):
    root = write_pairs(tmp_path / "faces")
    write_json(tmp_path / f"faces/{place}{labels.IDENTITY_FILE}", FEATURES)
    assert np.array_equal(load(root), MATRIX)
    assert np.array_equal(load(root / "VIS"), MATRIX)
    assert labels.has_identity_features(open_pairs(root))


def test_labels_in_an_archive(tmp_path):
    root = write_pairs(tmp_path / "faces")
    write_json(root / labels.IDENTITY_FILE, FEATURES)
    archive = zip_folder(root, tmp_path / "a.zip", "faces/")
    assert np.array_equal(load(archive), MATRIX)
    assert labels.has_identity_features(open_pairs(archive))


def test_classes_become_one_hot(tmp_path):
    root = write_pairs(tmp_path, rgb="images")
    entries = [[f"{stem}.png", number] for stem, number in zip(STEMS, [2, 0, 2, 4], strict=True)]
    write_json(root / "images" / labels.CLASS_FILE, {"labels": entries})
    assert np.array_equal(load(root), np.eye(5, dtype=np.float32)[[2, 0, 2, 4]])
    assert np.array_equal(load(root / "images"), np.eye(5, dtype=np.float32)[[2, 0, 2, 4]])


def test_vectors_in_dataset_json(tmp_path):
    write_pairs(tmp_path)
    entries = [[f"VIS/{stem}.png", FEATURES[stem]] for stem in STEMS]
    write_json(tmp_path / labels.CLASS_FILE, {"labels": entries})
    assert np.array_equal(load(tmp_path), MATRIX)


def test_identity_features_go_before_classes(tmp_path):
    write_pairs(tmp_path)
    write_json(tmp_path / labels.IDENTITY_FILE, FEATURES)
    write_json(tmp_path / labels.CLASS_FILE, {"labels": [[stem, 0] for stem in STEMS]})
    assert np.array_equal(load(tmp_path), MATRIX)
    kinds = [table.kind for table in labels.read_label_tables(open_pairs(tmp_path))]
    assert kinds == [labels.IDENTITY_FILE, labels.CLASS_FILE]


def test_labels_of_other_files_do_no_harm(tmp_path):
    write_pairs(tmp_path)
    write_json(tmp_path / labels.IDENTITY_FILE, {**FEATURES, "9_9.png": [7]})
    assert np.array_equal(load(tmp_path), MATRIX)


def test_names_without_subfolder_serve_where_they_are_unique(tmp_path):
    write_pairs(tmp_path, ["a/1", "b/2", "b/3"])
    write_json(tmp_path / labels.IDENTITY_FILE, {"1.png": [1], "b/2.png": [2], "3": [3]})
    assert np.array_equal(load(tmp_path), [[1], [2], [3]])
    write_pairs(tmp_path, ["a/3"])
    with pytest.raises(ValueError, match="no label for 2 of 4 images: a/3, b/3"):
        load(tmp_path)


def test_asking_for_labels_that_are_not_there(tmp_path):
    write_pairs(tmp_path)
    write_json(tmp_path / labels.CLASS_FILE, {"labels": None})
    with pytest.raises(ValueError, match="neither identity_features.json nor a dataset.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([1.0, 2.0], "2 numbers, but the first has 3"),
        *[
            ([1.0, number, 0.0], "must be finite in float32")
            for number in (float("nan"), float("inf"), 1e39, 10**400)
        ],
        *[([1.0, value, 0.0], "expected a list of numbers") for value in ("2", True, None, [2])],
        *[(value, "expected a list of numbers") for value in ([], 3, {})],
    ],
)
def test_bad_vectors_are_refused_by_name(tmp_path, bad, message):
    write_pairs(tmp_path)
    write_json(tmp_path / labels.IDENTITY_FILE, {**FEATURES, "2_0": bad})
    with pytest.raises(ValueError, match=f"identity_features.json: '2_0': .*{message}"):
        load(tmp_path)


@pytest.mark.parametrize("bad", [-1, True, 1.0, "1", None, 65536, [1.0]])
def test_bad_classes_are_refused_by_name(tmp_path, bad):
    write_pairs(tmp_path)
    entries = [["1_0", 0], ["1_1", 1], ["2_0", 0], ["2_1", bad]]
    write_json(tmp_path / labels.CLASS_FILE, {"labels": entries})
    with pytest.raises(ValueError, match="dataset.json: label of '2_1' must be a class number"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (labels.IDENTITY_FILE, [], "expected an object {file name"),
        (labels.IDENTITY_FILE, {"": [1]}, "file names must be text, got ''"),
        (labels.IDENTITY_FILE, {"1_0.png": [1], "1_0.jpg": [2]}, "two different labels for '1_0'"),
        (labels.CLASS_FILE, [], 'expected an object with the key "labels"'),
        (labels.CLASS_FILE, {"labels": 3}, '"labels" must be a list or null, got int'),
        (labels.CLASS_FILE, {"labels": [["1_0"]]}, "each label must be .file name, label."),
        (labels.CLASS_FILE, {"labels": [[1, 2]]}, "file names must be text, got 1"),
    ],
)
def test_other_forms_are_refused(tmp_path, name, content, message):
    write_pairs(tmp_path)
    write_json(tmp_path / name, content)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["{", "", "\x00"])
def test_broken_json_is_named(tmp_path, content):
    root = write_pairs(tmp_path / "faces")
    (root / labels.IDENTITY_FILE).write_text(content)
    archive = zip_folder(root, tmp_path / "a.zip")
    for place in (root, archive):
        with pytest.raises(ValueError, match="identity_features.json: not valid JSON"):
            load(place)


def test_scaled_identity_features(tmp_path):
    root = write_pairs(tmp_path)
    write_json(root / labels.IDENTITY_FILE, FEATURES)
    scaled = labels.load_labels(open_pairs(root), 4.0)
    assert scaled.dtype == np.float32
    assert np.linalg.norm(scaled, axis=1) == pytest.approx([4.0] * 4, rel=1e-6)
    cosines = (scaled * MATRIX).sum(1) / (4 * np.linalg.norm(MATRIX, axis=1))
    assert cosines == pytest.approx([1.0] * 4, rel=1e-6)


def test_classes_have_no_scale(tmp_path):
    root = write_pairs(tmp_path)
    entries = [[f"{stem}.png", index % 2] for index, stem in enumerate(STEMS)]
    write_json(root / labels.CLASS_FILE, {"labels": entries})
    assert labels.load_labels(open_pairs(root), 4.0).max() == 1
    assert PairDataset.open(root, use_labels=True, feature_scale=4.0).feature_scale is None


def test_zero_features_have_no_direction(tmp_path):
    root = write_pairs(tmp_path)
    write_json(root / labels.IDENTITY_FILE, {**FEATURES, "2_0": [0, 0, 0]})
    assert not load(root)[2].any()
    with pytest.raises(ValueError, match="'2_0': features must not all be zero"):
        labels.load_labels(open_pairs(root), 4.0)
