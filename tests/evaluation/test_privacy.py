"""The verdict of the privacy topic: what the numbers say, in sentences."""

import numpy as np

from evaluation.privacy import privacy_verdict
from metrics.privacy import Group, score_privacy


def group(vectors, name):
    return Group(vectors=vectors, identities=[f"{name}{k // 5}" for k in range(len(vectors))])


def verdict_of(nearness):
    """Samples that lie between training images and the nothing that all come from."""
    rng = np.random.default_rng(0)
    training, heldout, own = rng.standard_normal((3, 200, 16)).astype(np.float32)
    sides = group(nearness * training + own, "s"), group(training, "t"), group(heldout, "h")
    score = score_privacy(*sides, {0.001: 0.9}, device="cpu", seed=0)
    return privacy_verdict({"auditor": score}, {}, has_heldout=True)


def test_memory_without_copies_is_said():
    text = verdict_of(0.6)
    assert "No sample is named" in text
    assert "Training images are nearer to samples than held-out images are, by auditor" in text
    assert "no sign" not in text


def test_no_memory_is_no_sign():
    text = verdict_of(0.0)
    assert "Training images are nearer" not in text
    assert "no sign" in text
