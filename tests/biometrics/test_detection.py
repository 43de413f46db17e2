import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image

from biometrics.alignment import Similarity, fit_similarity, template_points, warp
from biometrics.detection import (
    FaceCheck,
    MtcnnDetector,
    _faces,
    build_face_check,
)
from biometrics.faces import FaceReason, FaceRules
from renderer.render import render_sample
from tests.helpers.faces import FakeDetector, frontal_face

# An example face that MTCNN takes for one, see test_example_faces_are_found.
PERSON = {"seed": 0, "identity": 0, "sample": 0, "resolution": 128, "style": "photo"}


@pytest.fixture(scope="module")
def mtcnn():
    pytest.importorskip("facenet_pytorch", reason="needs requirements-extras.txt")
    return MtcnnDetector()


@pytest.fixture(scope="module")
def photograph():
    data = pytest.importorskip("skimage.data", reason="needs requirements-dev.txt")
    return data.astronaut()


def drawn_face():
    return render_sample(*PERSON.values()).images["rgb"].transpose(1, 2, 0)


def as_batch(*images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


# A real photograph


def test_a_photographed_face_is_found_in_its_place(mtcnn, photograph):
    ((face,),) = mtcnn.detect([photograph])
    assert face.probability > 0.999
    assert face.box.shape == (4,)
    assert face.landmarks.dtype == np.float64
    # Eyes, nose and corners of the mouth, read off the picture by eye.
    expected = [[205, 102], [247, 104], [225, 129], [202, 139], [245, 142]]
    assert np.abs(face.landmarks - expected).max() < 4


def test_large_photographs_are_searched_reduced(photograph, mtcnn):
    large = np.asarray(Image.fromarray(photograph).resize((1536, 1536), Image.Resampling.BICUBIC))
    ((face,),) = mtcnn.detect([photograph])
    ((found,),) = MtcnnDetector(max_side=512).detect([large])
    assert np.abs((found.landmarks + 0.5) / 3 - 0.5 - face.landmarks).max() < 1.5


def test_verdicts_on_a_photograph(mtcnn, photograph):
    check = build_face_check("mtcnn")
    grey = torch.from_numpy(photograph[..., 1])[None, None]
    assert check(grey)[0].is_accepted
    both = np.concatenate([photograph[:220, 100:330], photograph[:220, 100:330]], axis=1)
    verdicts = check(as_batch(both, both[:, ::-1].copy(), 0 * both))
    assert [list(v.reasons) for v in verdicts] == [
        [FaceReason.SEVERAL_FACES],
        [FaceReason.SEVERAL_FACES],
        [FaceReason.NO_FACE],
    ]
    assert build_face_check("mtcnn", rules=FaceRules.published())(as_batch(both))[0].is_accepted


# Drawn faces


def test_example_faces_are_found(mtcnn):
    (faces,) = mtcnn.detect([drawn_face()])
    assert len(faces) == 1
    eyes, nose = faces[0].landmarks[:2], faces[0].landmarks[2]
    assert eyes[0, 0] < nose[0] < eyes[1, 0]
    assert nose[1] > eyes[:, 1].max()


def test_order_and_sizes_are_kept(mtcnn):
    face = drawn_face()
    empty = np.zeros_like(face)
    images = [empty, face, np.zeros((50, 30, 3), np.uint8), face[:, ::-1].copy(), face[:4, :4]]
    found = mtcnn.detect(images)
    assert [len(faces) for faces in found] == [0, 1, 0, 1, 0]
    mirrored = len(face) - 1 - found[3][0].landmarks[[1, 0, 2, 4, 3], 0]
    assert np.abs(mirrored - found[1][0].landmarks[:, 0]).max() < 6  # the other one is 40 away


def test_neighbours_in_a_call_change_nothing(mtcnn):
    face = drawn_face()
    other = np.asarray(Image.fromarray(face).rotate(10))
    alone = mtcnn.detect([face])[0][0]
    together = mtcnn.detect([other, face, other])[1][0]
    assert np.array_equal(alone.landmarks, together.landmarks)
    assert alone.probability == together.probability


@pytest.mark.parametrize("side", [1, 11, 12, 19, 20, 21])
def test_tiny_images_hold_no_face(mtcnn, side):
    assert mtcnn.detect([np.full((side, 40, 3), 128, np.uint8)]) == [()]


def test_description(mtcnn):
    description = mtcnn.describe()
    assert description["name"] == "mtcnn"
    assert description["min_face_size"] == 20


def test_global_random_state_is_left_alone(mtcnn):
    before = torch.get_rng_state()
    mtcnn.detect([drawn_face()])
    assert torch.equal(torch.get_rng_state(), before)


# Answers of the package


def test_arrays_of_objects_are_understood():
    boxes = np.array([[0, 0, 9, 9], [10, 10, 50, 50]], dtype=object)
    landmarks = np.arange(20).reshape(2, 5, 2).astype(object)
    faces = _faces(boxes, np.array([0.7, 0.9], dtype=object), landmarks, np.array([2.0, 4.0]))
    assert [face.probability for face in faces] == [0.9, 0.7]
    assert faces[1].box.tolist() == [0.5, 1.5, 18.5, 37.5]
    assert faces[0].landmarks.dtype == np.float64
    assert faces[0].landmarks[0].tolist() == [20.5, 45.5]
    assert _faces(None, [None], None, np.ones(2)) == ()


# Checks with a detector that knows the answer


def test_grey_images_reach_the_detector_as_rgb():
    detector = FakeDetector(lambda image: [frontal_face()] if image[0, 0, 2] else [])
    check = FaceCheck(detector, FaceRules())
    images = torch.zeros(3, 1, 8, 10, dtype=torch.uint8)
    images[1] = 7
    assert [v.is_accepted for v in check(images)] == [False, True, False]
    assert detector.shapes == [(8, 10, 3)] * 3
    assert check(images[:0]) == []
    assert check.describe()["rules"]["min_probability"] == 0.97


def test_no_check_accepts_everything():
    check = build_face_check("none")
    verdicts = check(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    assert [v.is_accepted for v in verdicts] == [True, True]
    assert check.describe() == {"kind": "none"}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 3, 8, 8), r"must be uint8 .* got torch.float32 \[1, 3, 8, 8\]"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"got torch.uint8 \[3, 8, 8\]"),
        (torch.zeros(1, 2, 8, 8, dtype=torch.uint8), r"1 or 3"),
    ],
)
def test_other_tensors_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        FaceCheck(FakeDetector(lambda _: []), FaceRules())(images)


def test_other_images_are_refused(mtcnn):
    with pytest.raises(ValueError, match=r"must be uint8 \[H, W, 3\], got float64 \[9, 9, 3\]"):
        mtcnn.detect([np.zeros((9, 9, 3))])
    with pytest.raises(ValueError, match=r"got uint8 \[9, 9\]"):
        mtcnn.detect([np.zeros((9, 9), np.uint8)])


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="yolo"):
        build_face_check("yolo")


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    message = "needs facenet-pytorch: pip install -r requirements-extras.txt"
    with pytest.raises(ValueError, match=message):
        build_face_check("mtcnn")


# Alignment of what was found


def test_a_turned_photograph_is_aligned_as_the_straight_one(mtcnn, photograph):
    target = template_points(112)
    straight = fit_similarity(mtcnn.detect([photograph])[0][0].landmarks, target)
    turn = Similarity(0.9, 0.3, 30.0, -20.0)
    found = mtcnn.detect([warp(photograph, turn, 480)])[0][0]
    turned = fit_similarity(found.landmarks, target)
    moved = turned.apply(turn.apply(straight.inverse().apply(target)))
    assert np.abs(moved - target).max() < 3  # of 112 pixels
