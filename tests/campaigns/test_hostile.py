"""A few mutated files of each kind; `make campaigns` reads as many as there is time for."""

import pytest

from tests.campaigns import hostile
from tests.campaigns.targets import TARGETS

FILES = 8


@pytest.mark.parametrize("target", TARGETS)
def test_a_mutated_file_is_read_or_refused_in_one_line(target, tmp_path):
    if not TARGETS[target].is_available():
        pytest.skip(f"needs {TARGETS[target].needs} (requirements-extras.txt)")
    ended, found = hostile.attack(target, tmp_path, seed=0, first=0, count=FILES)
    assert ended.total() == FILES
    assert not found
