"""The scripted annotator of benchmarks/annotator_strokes.py."""

import numpy as np
from scipy import ndimage

from benchmarks.annotator_strokes import AIM_SEC, SMALLEST, Hand, _covered, _row


def face():
    rows, columns = np.mgrid[:32, :32]
    truth = np.zeros([32, 32], np.uint8)
    truth[(rows - 16) ** 2 + (columns - 16) ** 2 < 144] = 1
    truth[20:24, 11:21] = 2
    return truth


def test_the_hand_leaves_no_region_that_is_worth_a_stroke():
    hand = Hand(np.random.default_rng(0))
    mask = hand.paint(np.zeros_like(face()), face())
    assert (mask != face()).mean() < 0.05
    for label in range(3):
        _, count = ndimage.label((face() == label) & (mask != label))
        sizes = ndimage.sum_labels(np.ones_like(mask), _, range(1, count + 1))
        assert max(sizes, default=0) < SMALLEST
    assert hand.seconds > AIM_SEC * hand.strokes


def test_what_is_nearly_right_takes_fewer_strokes():
    nearly = face()
    nearly[10:13, 10:13] = 0
    strokes = []
    for begun in (np.zeros_like(nearly), nearly, face()):
        hand = Hand(np.random.default_rng(0))
        hand.paint(begun, face())
        strokes.append(hand.strokes)
    assert strokes[0] > strokes[1] > strokes[2] == 0


def test_brushes_are_as_wide_as_they_say():
    path = np.array([[8.0, 4.0], [8.0, 20.0]])
    for size in (1, 2, 3, 7):
        covered = _covered(path, size, (16, 32))
        assert covered[:, 12].sum() == size
        assert covered.any(axis=0).sum() == 16 + size


def test_a_goal_that_a_seed_misses_is_missed():
    def curve(*values):
        return [{"strokes": 10 * k, "seconds": k, "miou": v} for k, v in enumerate(values, 1)]

    row = _row("way", [curve(0.7, 0.86), curve(0.82, 0.84)])
    assert (row["strokes to 0.8"], row["strokes to 0.85"], row["strokes, all"]) == (
        15,
        "missed",
        20,
    )
