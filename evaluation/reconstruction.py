"""Reconstruction: does a generator show its training images better than ones it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.modalities import MODALITIES
from data.plots import bin_values, plot_histograms, to_svg
from dnnlib import files
from dnnlib.options import Progress
from dnnlib.runs import first_difference
from evaluation.options import ReconstructionOptions
from evaluation.report import Block, Cell, Chart, Headline, Section, Table
from evaluation.topic import ReportJob, Topic
from metrics.estimates import Estimate, clustered, weighted_mean, weighted_quantile
from metrics.privacy import Side, attack_auc, check_strangers

_RECORD, _ERRORS = "projection.json", "errors.json"
_KEY = "rmse"
# What of projection.json's options does not change latents.
_UNRELATED = ("images", "interpreter", "residual", "annotate")
_STATISTICS = {"Mean": weighted_mean, "Median": weighted_quantile(0.5)}


@dataclass(frozen=True, kw_only=True)
class Projections:
    """Projected images of one kind.

    Attributes:
        identity: options that decide their latents, besides the images.
        errors: modality -> root mean square error of each image, of 255.
        identities: of the images.
    """

    identity: dict[str, Any]
    errors: dict[str, list[float]]
    identities: tuple[str, ...]

    def side(self, modality: str) -> Side:
        """Return errors and identities."""
        return np.array(self.errors[modality], np.float64), self.identities


@dataclass(frozen=True, kw_only=True, eq=False)
class ReconstructionTopic(Topic):
    """Projections of training images, and of images of identities that were held out.

    Attributes:
        training, heldout: made with the same options.
        seed: of resampling.
    """

    key = "reconstruction"
    title = "Reconstruction"

    training: Projections
    heldout: Projections
    seed: int

    def measure(self, progress: Progress) -> Section:
        """Compare the errors in each modality."""
        blocks: list[Block] = []
        aucs: dict[str, Estimate] = {}
        for modality in self.training.errors:
            sides = self.training.side(modality), self.heldout.side(modality)
            # A member's error is smaller: the score is its negative.
            members, others = ((-values, names) for values, names in sides)
            aucs[modality] = attack_auc(members, others, seed=self.seed)
            blocks += [self._table(modality, sides), _chart(modality, sides)]
        attack = Table(
            caption="Attack: images with small errors are taken for training images",
            columns=("Modality", "AUC"),
            rows=tuple((modality.upper(), auc) for modality, auc in aucs.items()),
            note="0.5 is chance; intervals are 95 %, from resampling identities. An AUC near 0.5 "
            "shows no memory by this attack; it cannot show that there is none. Compare with sets "
            "that are equally hard: another camera alone tells the two apart as well.",
        )
        return Section(
            key=self.key,
            title=self.title,
            lead="Projected training images beside those of identities that were held out: a "
            "generator that remembers reconstructs the former better.",
            blocks=(attack, *blocks),
            data={"attack_auc": aucs, "options": self.training.identity},
            headlines=tuple(
                Headline(
                    label=f"Reconstruction attack AUC ({modality.upper()})",
                    value=auc,
                    meaning="privacy; 0.5 is best",
                )
                for modality, auc in aucs.items()
            ),
        )

    def _table(self, modality: str, sides: Sequence[Side]) -> Table:
        rows: list[tuple[Cell, ...]] = [
            (name, *(clustered(values, names, f, seed=self.seed) for values, names in sides))
            for name, f in _STATISTICS.items()
        ]
        return Table(
            caption=f"Root mean square error of 255, {modality.upper()}",
            columns=("Statistic", "Training", "Held-out identities"),
            rows=tuple(rows),
        )


def _chart(modality: str, sides: Sequence[Side]) -> Chart:
    values = dict(zip(("training", "held-out identities"), (v for v, _ in sides), strict=True))
    title = f"Reconstruction error ({modality.upper()})"
    figure = plot_histograms(
        *bin_values(values, bins=20), title=title, x_label="root mean square error of 255"
    )
    return Chart(svg=to_svg(figure, title), caption="Training images further left are memory.")


def open_topic(
    training: Sequence[Path], heldout: Sequence[Path], *, seed: int
) -> ReconstructionTopic:
    """Read the errors of projected images.

    Raises: FileNotFoundError; ValueError for folders of something else, unfinished ones, other
        options, or identities that are in two of them.
    """
    read = [read_projections(path) for path in (*training, *heldout)]
    for path, found in zip((*training, *heldout), read, strict=True):
        if found.identity != read[0].identity:
            difference = first_difference(read[0].identity, found.identity)
            raise ValueError(f"{path}: made with other options than {training[0]} ({difference})")
        if found.errors.keys() != read[0].errors.keys():
            raise ValueError(f"{path}: has errors of other modalities than {training[0]}")
    members = _join(training, read[: len(training)])
    others = _join(heldout, read[len(training) :])
    check_strangers(others.identities, members.identities)
    return ReconstructionTopic(training=members, heldout=others, seed=seed)


def read_projections(folder: Path) -> Projections:
    """Read a folder that project_pairs.py wrote.

    Raises: FileNotFoundError; ValueError naming the file that is something else.
    """
    record, errors = files.read_json(folder / _RECORD), files.read_json(folder / _ERRORS)
    if not isinstance(record, dict) or not record.get("finished"):
        raise ValueError(f"{folder}: is not finished; repeat project_pairs.py")
    try:
        made, images = record["identity"], list(errors["images"])
        identity = {key: made[key] for key in made if key not in _UNRELATED}
        values = {
            modality.name: [float(entry[_KEY][modality.name]) for entry in images]
            for modality in MODALITIES
            if modality.name in errors[_KEY]
        }
        names = tuple(str(entry["identity"]) for entry in images)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / _ERRORS}: not of project_pairs.py ({error!r})") from error
    return Projections(identity=identity, errors=values, identities=names)


def _join(paths: Sequence[Path], parts: Sequence[Projections]) -> Projections:
    """Return several folders as one. Raises: ValueError for an identity that is in two of them."""
    owners: dict[str, int] = {}
    for number, part in enumerate(parts):
        for name in part.identities:
            if owners.setdefault(name, number) != number:
                raise ValueError(
                    f"{paths[number]}: folders of one side must have different identities,"
                    f" {name!r} is in {paths[owners[name]]} too"
                )
    return Projections(
        identity=parts[0].identity,
        errors={name: [e for part in parts for e in part.errors[name]] for name in parts[0].errors},
        identities=tuple(name for part in parts for name in part.identities),
    )


def hash_errors(folders: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of what is read of folders."""
    return {str(path): files.sha256_file(path / _ERRORS) for path in folders}


def prepare(options: ReconstructionOptions) -> ReportJob:
    """Read the errors. Raises: as `open_topic`."""
    topic = open_topic(options.training, options.heldout, seed=options.seed)
    folders = (*options.training, *options.heldout)
    sides = {"training": topic.training, "heldout": topic.heldout}
    return ReportJob(
        name="reconstruction",
        title="Reconstruction",
        subtitle="Projected training images against those of held-out identities",
        topics=[topic],
        plan={name: len(side.identities) for name, side in sides.items()},
        options=options,
        inputs=lambda: hash_errors(folders),
    )
