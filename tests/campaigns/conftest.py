"""Campaigns need /proc, limits of memory, and groups of processes, as Linux has them."""

import sys

ATTACKS = ("faults", "hostile", "kills", "long_form", "network", "processes")
collect_ignore = [] if sys.platform == "linux" else [f"test_{name}.py" for name in ATTACKS]
