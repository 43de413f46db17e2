"""A dozen signals at random moments; `make campaigns` sends as many as there is time for."""

import signal

import pytest

from tests.campaigns import kills
from tests.campaigns.cases import CASES

CHOSEN = ("label", "import", "annotations", "refine")


@pytest.mark.parametrize("name", CHOSEN)
def test_a_command_continues_to_the_same_bytes(name, tmp_path):
    case = next(case for case in CASES if case.name == name)
    rows = kills.run([case], tmp_path, seed=0, deadline=lambda: False, most=3)
    assert rows[name]["attacks"] == 3
    assert sum(n for how, n in rows[name]["ended"].items() if how.endswith(": ended")) == 3
    assert not rows[name]["found"], rows[name]["found"]


INTERRUPTED = "Traceback (most recent call last):\n  ...\nKeyboardInterrupt\n"


@pytest.mark.parametrize(
    ("number", "is_twice", "code", "text", "is_wrong"),
    [
        (signal.SIGINT, False, 1, "Aborted!", False),
        (signal.SIGINT, False, 1, INTERRUPTED, True),
        (signal.SIGINT, False, 0, f"Exception ignored in: <f>\n{INTERRUPTED}refined", False),
        (signal.SIGINT, False, 1, f"Exception ignored in: <f>\n{INTERRUPTED * 2}", True),
        (signal.SIGINT, True, 1, INTERRUPTED, False),
        (signal.SIGINT, True, 1, INTERRUPTED.replace("KeyboardInterrupt", "KeyError"), True),
        (signal.SIGTERM, False, 143, "", False),
        (signal.SIGTERM, True, 1, INTERRUPTED, True),
        (signal.SIGTERM, False, 2, "", True),
        (signal.SIGKILL, False, -9, "", False),
        (signal.SIGKILL, False, -11, "", True),
    ],
)
def test_what_a_signal_may_lead_to(number, is_twice, code, text, is_wrong):
    assert bool(kills.faults_of_signal(number, is_twice, code, text)) is is_wrong
