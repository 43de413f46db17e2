"""A process that is killed ends the others; what any number of them writes is tested elsewhere."""

from tests.campaigns import processes
from tests.campaigns.cases import CASES


def test_the_others_end_in_one_line_and_the_run_continues(tmp_path):
    case = next(case for case in CASES if case.name == "train recogniser")
    ended, wrong = processes.lose_a_rank(case, tmp_path, lost=1)
    assert ended != "hung"
    assert not wrong
