import json
from pathlib import Path

import numpy as np
import pytest

from data.class_list import load_class_list
from interpreter.assistant import InterpreterAssistant
from tests.helpers.annotating import mask_of
from tests.helpers.interpreters import write_workshop


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return write_workshop(tmp_path_factory.mktemp("workshop"))


def assistant_of(workshop, exp="exp.json", **changes):
    options = {"network": None, "members": 2, "steps": 20, "device": "cpu", **changes}
    classes = load_class_list(workshop / "classes.json")
    drawn = workshop / "drawn"
    return InterpreterAssistant(exp=workshop / exp, drawn=drawn, classes=classes, **options)


def test_all_other_images_get_a_suggestion(workshop):
    steps = []

    def progress(done, total, unit):
        steps.append((done, total))
        return steps.append

    masks = {4: mask_of(4, 16) % 3, 1: mask_of(1, 16) % 3}
    found = list(assistant_of(workshop).suggest(masks, progress))
    assert [number for number, *_ in found] == [0, 2, 3, 5]
    for _, labels, divergence, score in found:
        assert (labels.shape, labels.dtype, divergence.shape) == ((16, 16), np.uint8, (16, 16))
        assert 0 <= score <= np.log(2)
    assert steps[0] == (0, 20)
    assert sum(steps[1:]) == 20
    again = list(assistant_of(workshop).suggest(masks, progress))
    assert all(np.array_equal(a[2], b[2]) for a, b in zip(found, again, strict=True))


def test_what_does_not_fit_is_refused(workshop):
    content = json.loads((workshop / "exp.json").read_text())
    (workshop / "raw.json").write_text(json.dumps({**content, "use_raw_g": True}))
    with pytest.raises(ValueError, match="G_ema"):
        assistant_of(workshop, exp="raw.json")
    with pytest.raises(FileNotFoundError, match="none.pkl"):
        assistant_of(workshop, network=Path("none.pkl"))
    with pytest.raises(ValueError, match="image 9 has no latent"):
        list(assistant_of(workshop).suggest({9: mask_of(9, 16) % 3}, None))
    with pytest.raises(ValueError, match="image 1"):
        list(assistant_of(workshop).suggest({1: mask_of(1, 8) % 3}, None))
