"""The section on where a report comes from: command, versions, hashes."""

import shlex
from collections.abc import Mapping
from typing import Any

from evaluation.report.content import Section, Table, Text


def provenance_section(
    command: list[str], environment: Mapping[str, Any], inputs: Mapping[str, str], seed: int
) -> Section:
    """Return the section on how to make the report again.

    Args:
        command: as it was called.
        environment: of dnnlib.runs.describe_environment.
        inputs: what was read -> its SHA-256.
    """
    packages = environment.get("packages", {})
    rows = [
        ("Python", str(environment.get("python"))),
        ("Platform", str(environment.get("platform"))),
        ("Git commit", str(environment.get("git_commit"))),
        *((name, str(version)) for name, version in packages.items()),
        ("Seed", str(seed)),
    ]
    return Section(
        key="provenance",
        title="How to repeat this",
        lead="The exact command, the versions that ran it and the hashes of what it read.",
        blocks=(
            Text(label="Command", text=shlex.join(command)),
            Table(caption="Versions", columns=("What", "Version"), rows=tuple(rows)),
            Table(
                caption="Inputs (SHA-256; of a data set: of all names and bytes)",
                columns=("Input", "SHA-256"),
                rows=tuple(inputs.items()),
            ),
        ),
        data={"command": command, "environment": environment, "inputs": inputs, "seed": seed},
    )
