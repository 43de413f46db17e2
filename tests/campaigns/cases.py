"""The commands that campaigns attack: one entry a way in which a script writes.

A case's inputs lie in a folder of its own, in which its command runs with relative paths: what an
attacked command leaves there is compared with what it leaves when nobody disturbs it.
"""

import contextlib
import fnmatch
import hashlib
import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interpreter.features import feature_layout
from tests.helpers import labelled, refinement
from tests.helpers.images import write_pairs
from tests.helpers.interpreters import (
    save_small_models,
    save_small_snapshot,
    small_generator,
    write_workshop,
)
from tests.helpers.people import save_recogniser, save_varied_snapshot, write_people
from tests.helpers.processes import Fork, run_script
from tests.helpers.training import tiny_data

OFTEN = "--checkpoint-minutes=0.00001"  # after every step
# What differs between two undisturbed runs, too: clocks, and what was said when.
MAY_DIFFER = ("log.txt", ".lock", "events.out.tfevents.*")
TIMES = ("timestamp", "Timing/", "Resources/", "git_commit")  # somebody may commit meanwhile


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command and its inputs.

    Attributes:
        name: what tables call it.
        script: its name, without ".py".
        prepare: writes the inputs into the folder that it is given.
        words: of the command line, with paths relative to that folder.
        may_differ: patterns of names of files that need not be equal, besides MAY_DIFFER.
        has_left_parts: its result is not a folder of its own, so that what a kill amid a file has
            left stays: hidden, of no use, and never read.
    """

    name: str
    script: str
    prepare: Callable[[Path], object]
    words: tuple[str, ...]
    may_differ: tuple[str, ...] = ()
    has_left_parts: bool = False

    @property
    def slug(self):
        """Its name for a folder."""
        return self.name.replace(" ", "_")


def _recogniser(folder):
    save_recogniser(folder / "rec.pth")
    write_people(folder / "data", folder / "rec.pth", people=4)


def _identities(folder):
    save_varied_snapshot(folder / "net.pkl")
    save_recogniser(folder / "rec.pth")
    write_people(folder / "data", folder / "rec.pth", people=8)


def _labelled(folder):
    labelled.write_generated(folder / "data", 8)
    labelled.write_generated(folder / "val", 5)


def _refinable(folder):
    refinement.write_rendered(folder / "data")
    refinement.write_real(folder / "real")
    refinement.save_random_refiner(folder / "refiner.pt")


def _workshop(folder):
    write_workshop(folder, max_steps=100, evaluate_every=5, patience=100)
    layout = feature_layout(small_generator().config)
    save_small_models(folder / "trained", layout.total)


def _projectable(folder):
    save_small_snapshot(folder / "net.pkl")
    write_pairs(folder / "data", [f"{i}_0" for i in range(6)])


def _twenty_people(folder):
    write_pairs(folder / "data", [f"{p}_{i}" for p in range(20) for i in range(2)])


CPU = "--device=cpu"
LIMITS = ("--rec-model=rec.pth", "--training-ids=data/identity_features.json", "--privacy=0.999")
CASES = (
    Case(
        name="train GAN",
        script="train_db_stylegan2",
        prepare=lambda folder: tiny_data(folder / "data"),
        may_differ=("checkpoint.pt",),  # kept, as training may be extended; it knows the time
        words=("--data=data", "--outdir=out", "--cbase=32", "--cmax=4", "--w-dim=4", "--z-dim=4",
               "--map-depth=2", "--batch=100", "--mbstd-group=5", "--gamma=1", "--ema-kimg=1",
               "--kimg=1", "--aug=noaug", "--workers=1", "--cache=0", CPU, OFTEN),
    ),
    Case(
        name="train segmentation",
        script="train_segmentation",
        prepare=_labelled,
        words=("--data=data", "--val=val", "--outdir=out", "--width=4", "--depth=2", "--steps=40",
               "--every=15", "--batch=4", "--shift=0.1", CPU, OFTEN),
    ),
    Case(
        name="train refiner",
        script="train_refiner",
        prepare=_refinable,
        words=("--data=data", "--real=real", "--outdir=out", "--width=4", "--blocks=1",
               "--patch-width=0.1", "--steps=40", "--discriminator-warmup=5", "--batch=4",
               "--history=6", "--snap=20", CPU, OFTEN),
    ),
    Case(
        name="train recogniser",
        script="train_recognition",
        prepare=lambda folder: refinement.write_real(folder / "data"),
        words=("--data=data", "--outdir=out", "--backbone=r18", "--width=0.0625", "--embedding=8",
               "--size=16", "--batch=4", "--epochs=20", "--dropout=0.2", "--sample-rate=0.7",
               "--workers=1", "--memory-gib=0", CPU, OFTEN),
    ),
    Case(
        name="train interpreter",
        script="train_interpreter",
        prepare=_workshop,
        words=("--exp=exp.json", "--outdir=out", CPU, OFTEN),
    ),
    Case(
        name="label",
        script="train_interpreter",
        prepare=_workshop,
        words=("--exp=exp.json", "--outdir=out", "--generate-data", "--resume=trained",
               "--num-sample=20", "--save-vis", "--drop-uncertain=10%", "--archive=zip", CPU),
    ),
    Case(
        name="draw images",
        script="make_training_data",
        prepare=_workshop,
        words=("--exp=exp.json", "--sv-path=out", "--num-sample=6", "--select=2", CPU),
    ),
    Case(
        name="annotations",
        script="preprocess_annotations",
        prepare=_workshop,
        words=("--annotations=painted", "--drawn=drawn", "--outdir=out", "--classes=classes.json"),
    ),
    Case(
        name="new identities",
        script="generate_recognition_data",
        prepare=_identities,
        words=("--gen-model=net.pkl", *LIMITS, "--outdir=out", "--ids=4", "--samples-per-id=4",
               "--truncation=1", "--same-identity=0.5", "--too-similar=0.9999",
               "--export=recordio", CPU),
    ),
    Case(
        name="filter",
        script="filter_dataset",
        prepare=_recogniser,
        words=("--data=data", *LIMITS, "--outdir=out", CPU),
    ),
    Case(
        name="features",
        has_left_parts=True,
        script="create_identity_features",
        prepare=_recogniser,
        words=("--data-folder=data", "--rec-model=rec.pth", "--fresh", CPU),
    ),
    Case(
        name="import",
        script="prepare_dataset",
        prepare=lambda folder: write_pairs(folder / "data", [f"{i}_0" for i in range(12)], size=40),
        words=("import", "--source=data", "--outdir=out"),
    ),
    Case(
        name="example",
        script="prepare_dataset",
        prepare=lambda folder: None,
        words=("example", "--outdir=out", "--identities=6", "--samples=2", "--resolution=16",
               "--workers=1"),
    ),
    Case(
        name="pair archive",
        has_left_parts=True,
        script="prepare_dataset",
        prepare=_twenty_people,
        words=("bin", "--data=data", "--out=out/own.bin", "--pairs=20", "--size=16", "--fresh",
               CPU),
    ),
    Case(
        name="refine",
        script="train_refiner",
        prepare=_refinable,
        words=("--refine=data", "--refiner=refiner.pt", "--outdir=out", CPU),
    ),
    Case(
        name="generate",
        has_left_parts=True,
        script="generate",
        prepare=lambda folder: save_small_snapshot(folder / "net.pkl"),
        words=("--network=net.pkl", "--seeds=0-9", "--outdir=out", "--raw", CPU),
    ),
    Case(
        name="project",
        script="project_pairs",
        prepare=_projectable,
        words=("--network=net.pkl", "--data=data", "--outdir=out", "--num-steps=2", CPU),
    ),
    Case(
        name="evaluate verification",
        has_left_parts=True,
        script="evaluate",
        prepare=_recogniser,
        words=("verification", "--data=data", "--rec-model=rec.pth", "--outdir=out", CPU),
    ),
    Case(
        name="evaluate images",
        has_left_parts=True,
        script="evaluate",
        prepare=_refinable,
        words=("images", "--images=real", "--data=data", "--metrics=fid4_full,vendi4",
               "--extractor=standin", "--outdir=out", CPU),
    ),
)  # fmt: skip


class Bench:
    """A folder in which a case's command is run again and again from the same inputs.

    Attributes:
        case: the command.
        work: folder of inputs and outputs; its name is the same for every run.
    """

    def __init__(self, case, folder):
        self.case, self.work, self._inputs = case, folder / "work", folder / "inputs"
        self.work.mkdir(parents=True)
        case.prepare(self.work)
        self.work.rename(self._inputs)
        self.reset()

    def reset(self):
        """Put the inputs back as they were, without any output."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self._inputs, self.work)

    def keep_expected(self):
        """Take what lies there as the result of an undisturbed run."""
        self.expected = self.tree()

    def compare(self, *, was_killed=False):
        """Return which files are not those of an undisturbed run, "" for none."""
        found, expected = self.tree(), self.expected
        if was_killed and self.case.has_left_parts:
            found = {name: entry for name, entry in found.items() if not name.endswith(".part")}
        names = [n for n in {*found, *expected} if found.get(n) != expected.get(n)]
        return f"other files: {sorted(names)}" if names else ""

    def start(self, before=None, words=(), **environment):
        """Start the command with further words, in the context `before`, in another process."""
        words = (*self.case.words, *words)
        return Fork(_run, self.work, self.case.script, words, before, **environment)

    def finish(self):
        """Run the command to its end; return its exit code and what it wrote."""
        return self.start().end()

    def tree(self):
        """Return the SHA-256 of every file but for what may differ, by relative name."""
        skipped = (*MAY_DIFFER, *self.case.may_differ)
        return {
            path.relative_to(self.work).as_posix(): digest(path)
            for path in sorted(self.work.rglob("*"))
            if path.is_file() and not any(fnmatch.fnmatch(path.name, one) for one in skipped)
        }


def forbid_network():
    """Let every use of an internet socket by Python raise from now on, in this process."""
    sys.addaudithook(_refuse_network)


def _refuse_network(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        raise AssertionError(f"{event} {arguments}")
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        assert isinstance(arguments[1], str | bytes), f"{event} {arguments[1]}"  # of a file


def _run(folder, script, words, before):
    os.environ |= {"BIFACE_CACHE_DIR": str(folder / ".cache"), "BIFACE_OFFLINE": "1"}
    os.chdir(folder)
    forbid_network()
    importlib.import_module(script)  # so that `before` is the beginning of the command itself
    with contextlib.ExitStack() as stack:
        if before is not None:
            stack.enter_context(before)
        run_script(script, *words)


def digest(path):
    """Return the SHA-256 of a file, for JSON without its times."""
    content = path.read_bytes()
    if path.suffix == ".jsonl":
        rows = [_timeless(json.loads(line)) for line in content.splitlines()]
        content = json.dumps(rows).encode()
    elif path.suffix == ".json":
        content = json.dumps(_timeless(json.loads(content))).encode()
    return hashlib.sha256(content).hexdigest()


def _timeless(value):
    if isinstance(value, dict):
        return {k: _timeless(entry) for k, entry in value.items() if not k.startswith(TIMES)}
    return value


def faults_of(code, text):
    """Return what is wrong with how a command ended that met an error, "" for nothing."""
    errors = [line for line in text.splitlines() if line.startswith("Error: ")]
    if "Traceback" in text or code not in (0, 1, 2) or len(errors) != (code != 0):
        return f"exit code {code}: {text[-1500:]}"
    return ""
