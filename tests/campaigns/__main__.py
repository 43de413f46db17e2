"""The long form of the campaigns: `python -m tests.campaigns [NAMES] --minutes=60`."""

import sys
import tempfile
import time
import traceback
from pathlib import Path

import click

from dnnlib import files
from dnnlib.runs import describe_environment
from tests.campaigns import faults, hostile, kills, long_runs, processes
from tests.campaigns.cases import CASES
from tests.campaigns.targets import TARGETS

CAMPAIGNS = {
    "kills": kills.run,
    "faults": faults.run,
    "hostile": hostile.run,
    "processes": processes.run,
    "long": long_runs.run,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*CAMPAIGNS]))
@click.option("--minutes", default=60.0, show_default=True, help="Of all together.")
@click.option("--seed", default=0, show_default=True, help="Of moments, operations, mutations.")
@click.option("--only", multiple=True, help="Commands or kinds of files whose name has this.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="File for the counts.")
def main(names, minutes, seed, only, path):
    """Attack all commands and readers; exit code 1 where a promise was broken."""
    names = names or tuple(CAMPAIGNS)
    rows, began = {}, time.monotonic()
    for number, name in enumerate(names):
        share = (began + 60 * minutes - time.monotonic()) / (len(names) - number)
        end = time.monotonic() + share
        things = [t for t in TARGETS if TARGETS[t].is_available()] if name == "hostile" else CASES
        chosen = [t for t in things if not only or any(o in getattr(t, "name", t) for o in only)]
        with tempfile.TemporaryDirectory() as folder:
            done = rows[name] = run(
                CAMPAIGNS[name], chosen, Path(folder), seed, lambda end=end: time.monotonic() > end
            )
        if path is not None:
            record = {"seed": seed, "minutes": minutes, "environment": describe_environment()}
            files.write_json(path, {**record, "campaigns": rows})
        for thing, row in done.items():
            click.echo(f"{name:10} {thing:32} {_describe(row)}")
        total = sum(row["attacks"] for row in done.values())
        click.echo(f"{name:10} all: {total}, {sum(len(r['found']) for r in done.values())} found")
    found = [(name, *item) for name, done in rows.items() for item in done.items()]
    found = [(name, thing, what) for name, thing, row in found for what in row["found"]]
    for name, thing, what in found:
        click.echo(f"\n{name}, {thing}: {what}")
    sys.exit(bool(found))


def run(campaign, chosen, folder, seed, deadline):
    """Return the rows of a campaign; where it fails itself, as where a command fails undisturbed,
    a row with that as what was found.
    """
    try:
        return campaign(chosen, folder, seed=seed, deadline=deadline)
    except (AssertionError, RuntimeError):
        return {"itself": {"attacks": 0, "ended": {}, "found": [traceback.format_exc()[-3000:]]}}


def _describe(row):
    of = f" of {row['operations']} operations" if "operations" in row else ""
    ends = ", ".join(f"{count} {how}" for how, count in sorted(row["ended"].items()))
    return f"{row['attacks']}{of}: {ends}" + f"; {len(row['found'])} found" * bool(row["found"])


if __name__ == "__main__":
    main()
