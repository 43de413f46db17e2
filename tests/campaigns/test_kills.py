"""A dozen signals at random moments; `make campaigns` sends as many as there is time for."""

import pytest

from tests.campaigns import kills
from tests.campaigns.cases import CASES

CHOSEN = ("label", "import", "annotations", "refine")


@pytest.mark.parametrize("name", CHOSEN)
def test_a_command_continues_to_the_same_bytes(name, tmp_path):
    case = next(case for case in CASES if case.name == name)
    rows = kills.run([case], tmp_path, seed=0, deadline=lambda: False, most=3)
    assert rows[name]["attacks"] == 3
    assert not rows[name]["found"], rows[name]["found"]
