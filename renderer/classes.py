"""The classes of the example masks, and the merges to four classes."""

import numpy as np

from data.class_list import AnnotationClass, ClassList

BACKGROUND, SKIN, HAIR, BROWS, SCLERA, IRIS, PUPIL, NOSE, LIPS, NECK_AND_CLOTHES = range(10)


def _classes(**colours: tuple[int, int, int]) -> ClassList:
    return ClassList(tuple(AnnotationClass(name=n, colour=c) for n, c in colours.items()))


FACE_10 = _classes(
    background=(0, 0, 0),
    skin=(240, 196, 160),
    hair=(122, 78, 42),
    brows=(196, 120, 40),
    sclera=(245, 245, 245),
    iris=(56, 148, 224),
    pupil=(24, 24, 96),
    nose=(232, 144, 120),
    lips=(208, 48, 80),
    neck_and_clothes=(72, 144, 88),
)
FACE_4 = _classes(
    background=(0, 0, 0),
    skin=(240, 196, 160),
    hair=(122, 78, 42),
    eyes_and_mouth=(208, 48, 80),
)
OCULAR_4 = _classes(
    background=(0, 0, 0),
    iris=(56, 148, 224),
    pupil=(24, 24, 96),
    sclera=(245, 245, 245),
)
CLASSES = {10: FACE_10, 4: FACE_4}  # of masks, by their number

# What each of the 10 classes becomes. Skin takes the nose; hair the brows; eyes_and_mouth sclera,
# iris, pupil and lips; background takes neck and clothes. OCULAR_4 has the parts of the eye.
TO_FACE_4 = (0, 1, 2, 2, 3, 3, 3, 1, 3, 0)
TO_OCULAR_4 = (0, 0, 0, 0, 3, 1, 2, 0, 0, 0)


def merge_mask(mask: np.ndarray, classes: int) -> np.ndarray:
    """Return a mask [H, W] uint8 of the 10 classes in 10 or 4 of them."""
    return mask if classes == len(FACE_10) else np.asarray(TO_FACE_4, np.uint8)[mask]
