import numpy as np
import pytest

from biometrics.faces import (
    FaceReason,
    FaceRules,
    asymmetry,
    check_face,
)
from tests.helpers.faces import face_at, frontal_face

RULES = FaceRules()


def turned(nose_x):
    """A face with eyes at x 10 and 40 and the nose between them or not."""
    return face_at([[10, 20], [40, 20], [nose_x, 30], [15, 40], [35, 40]])


def reasons(faces, rules=RULES):
    return list(check_face(faces, rules).reasons)


def test_one_likely_frontal_face_is_accepted():
    face = frontal_face()
    verdict = check_face([face], RULES)
    assert verdict.is_accepted
    assert verdict.face is face


def test_each_reason():
    assert reasons([]) == [FaceReason.NO_FACE]
    assert reasons([frontal_face(), frontal_face()]) == [FaceReason.SEVERAL_FACES]
    assert reasons([frontal_face(probability=0.96)]) == [FaceReason.LOW_PROBABILITY]
    assert reasons([turned(38)]) == [FaceReason.NOT_FRONTAL]
    everything = [turned(38), turned(39)]
    rules = FaceRules(min_probability=1.0, rival_probability=0.0)
    everything = [face_at(face.landmarks, 0.5) for face in everything]
    assert reasons(everything, rules) == list(FaceReason)[1:]


def test_the_published_limit_belongs_to_the_accepted():
    assert reasons([frontal_face(probability=0.97)]) == []
    assert reasons([frontal_face(probability=np.nextafter(0.97, 0))]) != []


def test_the_likeliest_face_is_judged_whatever_the_order():
    likely, unlikely = frontal_face(probability=0.99), frontal_face(probability=0.5)
    for faces in ([likely, unlikely], [unlikely, likely]):
        verdict = check_face(faces, RULES)
        assert verdict.is_accepted
        assert verdict.face is likely


def test_several_faces_are_refused_from_a_probability_on_and_never_as_published():
    faces = [frontal_face(), frontal_face(probability=0.9)]
    assert reasons(faces) == [FaceReason.SEVERAL_FACES]
    assert reasons(faces, FaceRules(rival_probability=0.91)) == []
    assert reasons(faces, FaceRules.published()) == []


@pytest.mark.parametrize("nose_x", [10, 14, 15, 15.1, 20, 25, 30, 34.9, 35, 36, 40, 45, -3])
def test_frontal_as_published(nose_x):
    left, right = nose_x - 10, nose_x - 40
    published = abs(left + right) < (abs(left) + abs(right)) / 3
    assert (reasons([turned(nose_x)]) == []) == published


def test_any_pose_can_be_accepted():
    assert reasons([turned(45)], FaceRules(max_asymmetry=None)) == []


def test_asymmetry():
    assert asymmetry(turned(25).landmarks) == 0
    assert asymmetry(turned(40).landmarks) == 1
    assert asymmetry(turned(99).landmarks) == 1
    assert asymmetry(np.zeros((5, 2))) == 1


def test_what_is_not_a_number_is_refused():
    nan = float("nan")
    assert reasons([frontal_face(probability=nan)]) == [FaceReason.LOW_PROBABILITY]
    assert reasons([turned(nan)]) == [FaceReason.NOT_FRONTAL]
