"""Thresholds from a recogniser's own scores on a data set, and the file that keeps them.

A threshold is an edge of the bins that scores are counted in, and the rate there is exact. The
evaluation takes its thresholds by the same rule, see biometrics.comparisons.Scores.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from biometrics.comparisons import RULE_OF_3, Scores, Side, Tally, count_comparisons
from biometrics.features import IdentityFeatures
from dnnlib import config as configs
from dnnlib import files
from metrics import NotMeasuredError
from metrics.estimates import group_numbers
from metrics.nearest import References, unit_rows

THRESHOLDS_FILE = "thresholds.json"
FORMAT = "biface-thresholds"
DEFAULT_FMR = 1e-3
FNMR = 0.0228  # below mean - 2 standard deviations of a normal distribution
DIVERSITY = 0.95
PLOT_BINS = 200
SCORE_EDGES = np.linspace(-1, 1, PLOT_BINS + 1)
_MAX_IMAGES = 60000
_RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
_QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """A distribution of scores in a few numbers.

    Attributes:
        number: of comparisons.
        mean, std: of the scores.
        quantiles: share -> score below which that share lies, to a bin's width (1e-4).
        histogram: counts in PLOT_BINS equal bins from -1 to 1, with blanks between.
    """

    number: int
    mean: float
    std: float
    quantiles: dict[str, float] = field(default_factory=dict)
    histogram: str = ""

    @property
    def counts(self) -> np.ndarray:
        """The histogram as [PLOT_BINS] integers."""
        return np.array(self.histogram.split(), dtype=np.int64)

    def share_below(self, score: float) -> float:
        """Return the share of comparisons that score less, interpolated between what is known."""
        heaped = np.cumsum(self.counts) / max(self.number, 1)
        known = [*zip(SCORE_EDGES, [0.0, *heaped], strict=True)]
        known += [(value, float(share)) for share, value in self.quantiles.items()]
        return float(np.interp(score, *np.array(sorted(known)).T))


@dataclass(frozen=True, kw_only=True)
class ThresholdChoice:
    """A threshold between identities, and what it would do.

    Attributes:
        fmr: false match rate that is not exceeded.
        privacy: lowest score with that rate.
        fnmr: false non-match rate there, the share of mated scores below it.
        refused_new_people: share of the images that reach it with an image of another identity: an
            estimate of the images of new identities that would be rejected.
        missed_training_people: share that reach it with no other image of their own identity, of
            the images that have one: an estimate of the images of training identities that would
            pass.
    """

    fmr: float
    privacy: float
    fnmr: float
    refused_new_people: float
    missed_training_people: float


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits for a recogniser, and what they rest on.

    Attributes:
        privacy: share `fmr` of non-mated comparisons score this or more.
        same_identity: share `fnmr` of mated comparisons score less, but not below `privacy`: what
            is no match is not the same identity.
        mated_same_identity: the same without regard to `privacy`; None in files of before.
        too_similar: share 1 - `diversity` of mated comparisons score this or more.
        published_same_identity, published_too_similar: mean - 2 and mean + 1 standard deviations of
            mated scores.
        fmr, fnmr, diversity: the rates that were asked for.
        measured_fmr, measured_fnmr: at `privacy`, of the counted scores.
        refused_new_people, missed_training_people: at `privacy`, see ThresholdChoice.
        choices: other rates, as far as there are enough identities for them.
        recogniser: its hash.
        features: SHA-256 of the features' file; both "" for unknown.
        images, identities: that are compared with each other.
        mated, non_mated: scores of two images of one identity, and of two.
    """

    privacy: float
    same_identity: float
    too_similar: float
    published_same_identity: float
    published_too_similar: float
    fmr: float
    fnmr: float
    diversity: float
    measured_fmr: float
    measured_fnmr: float
    refused_new_people: float
    missed_training_people: float
    choices: tuple[ThresholdChoice, ...]
    recogniser: str
    features: str
    images: int
    identities: int
    mated: ScoreSummary
    non_mated: ScoreSummary
    mated_same_identity: float | None = None

    @property
    def by_fmr(self) -> dict[float, float]:
        """False match rate -> threshold between identities, for `fmr` and all other choices."""
        return {self.fmr: self.privacy} | {point.fmr: point.privacy for point in self.choices}


def calibrate(
    features: IdentityFeatures,
    *,
    fmr: float = DEFAULT_FMR,
    recogniser: str | None = None,
    device: str = "cpu",
) -> Thresholds:
    """Choose thresholds from the scores of a data set's own images.

    Of more than 60,000 images every n-th identity is compared, so that the time stays in bounds.

    Args:
        features: of all images.
        fmr: false match rate of `privacy`.
        recogniser: recorded where the features do not say.
        device: of the comparisons.
    Raises: NotMeasuredError where there are too few identities or images for these rates.
    Source: rates: ISO/IEC 19795-1; rule of 3: no error in 3 / p independent comparisons bounds the
        rate by p with 95 % confidence. Comparisons of the same two identities are not independent,
        so pairs of identities are counted.
    """
    vectors, groups = _compared_images(features, fmr)
    identities = len(np.unique(groups))
    side = Side(vectors=vectors, identities=groups.astype(str).tolist())
    scores = count_comparisons(side, groups=1, device=device).tally()
    known = References(vectors, groups, device=device)
    nearest = _nearest_mated(vectors, groups), known.nearest(vectors, groups=groups).scores
    mated, non_mated = scores.mated, scores.non_mated
    point = _operating_point(scores, *nearest, fmr)
    privacy = point.privacy
    thresholds = Thresholds(
        privacy=privacy,
        same_identity=max(mated.highest_edge(FNMR), privacy),
        mated_same_identity=mated.highest_edge(FNMR),
        too_similar=mated.lowest_edge(1 - DIVERSITY),
        published_same_identity=round(mated.mean - 2 * math.sqrt(mated.variance), 6),
        published_too_similar=round(mated.mean + math.sqrt(mated.variance), 6),
        fmr=fmr,
        fnmr=FNMR,
        diversity=DIVERSITY,
        measured_fmr=non_mated.share_from(privacy),
        measured_fnmr=point.fnmr,
        refused_new_people=point.refused_new_people,
        missed_training_people=point.missed_training_people,
        choices=tuple(
            _operating_point(scores, *nearest, rate)
            for rate in _RATES
            if _is_enough(identities, rate)
        ),
        recogniser=features.recogniser or recogniser or "",
        features=features.info.features if features.info else "",
        images=len(vectors),
        identities=identities,
        mated=summarise(mated),
        non_mated=summarise(non_mated),
    )
    _check_order(thresholds)
    return thresholds


def _compared_images(features: IdentityFeatures, fmr: float) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors and the identity number of each, if they are enough for these rates."""
    if not 0 < fmr < 1:  # it may come from a file
        raise ValueError(f"--calibrate: FMR must be between 0 and 1, got {fmr}")
    if features.info is not None and features.info.vectors != "all":
        raise NotMeasuredError(
            "--calibrate: these features have one vector per identity; make them with "
            "--all-or-one=all"
        )
    groups, _ = group_numbers(features.identities)
    chosen = groups % math.ceil(len(groups) / _MAX_IMAGES) == 0
    vectors, groups = unit_rows(features.vectors[chosen]), groups[chosen]
    _check_identities(len(np.unique(groups)), fmr)
    images = np.bincount(groups)
    mated_pairs, needed = int((images * (images - 1) // 2).sum()), math.ceil(RULE_OF_3 / FNMR)
    if mated_pairs < needed:
        raise NotMeasuredError(
            f"--calibrate: a false non-match rate of {FNMR:g} needs at least {needed} mated "
            f"comparisons, got {mated_pairs}; features of one image per identity cannot be "
            "calibrated"
        )
    return vectors, groups


def summarise(scores: Scores) -> ScoreSummary:
    """Return a distribution in a few numbers."""
    counts = scores.weights.reshape(PLOT_BINS, -1).sum(axis=1).astype(np.int64)
    return ScoreSummary(
        number=round(scores.number),
        mean=round(scores.mean, 6),
        std=round(math.sqrt(scores.variance), 6),
        quantiles={f"{share:g}": scores.highest_edge(share) for share in _QUANTILES},
        histogram=" ".join(map(str, counts)),
    )


def write_thresholds(path: Path, thresholds: Thresholds) -> None:
    """Write thresholds as JSON."""
    files.write_json(path, {"format": FORMAT, **configs.to_dict(thresholds)})


def read_thresholds(path: Path, recogniser: str | None = None) -> Thresholds:
    """Read what `write_thresholds` wrote, for the recogniser of a SHA-256, or for any.

    Raises: FileNotFoundError; ValueError, naming the file, for another form or recogniser.
    """
    content = files.read_object(path)
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{path}: not a file of thresholds: its format is not {FORMAT!r}")
    thresholds = configs.from_dict(Thresholds, content, str(path))
    if recogniser is not None and thresholds.recogniser not in ("", recogniser):
        raise ValueError(
            f"{path}: thresholds for the recogniser {thresholds.recogniser[:12]}, but the given "
            f"one is {recogniser[:12]}; calibrate again with --calibrate"
        )
    return thresholds


def _nearest_mated(vectors: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return each image's score with the nearest other one of its group; -inf for none."""
    nearest = np.full(len(vectors), -np.inf, np.float32)
    order = np.argsort(groups, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        cosines = vectors[rows] @ vectors[rows].T
        np.fill_diagonal(cosines, -np.inf)
        nearest[rows] = cosines.max(axis=1)
    return nearest


def _operating_point(
    scores: Tally, nearest_mated: np.ndarray, nearest_non_mated: np.ndarray, fmr: float
) -> ThresholdChoice:
    privacy = scores.non_mated.lowest_edge(fmr)
    return ThresholdChoice(
        fmr=fmr,
        privacy=privacy,
        fnmr=scores.mated.share_below(privacy),
        refused_new_people=_share(nearest_non_mated >= privacy),
        missed_training_people=_share(nearest_mated[np.isfinite(nearest_mated)] < privacy),
    )


def _share(flags: np.ndarray) -> float:
    return round(float(flags.mean()), 6)


def _is_enough(identities: int, fmr: float) -> bool:
    """Return whether there are enough pairs of identities for a rate."""
    return identities * (identities - 1) // 2 >= RULE_OF_3 / fmr


def _check_identities(identities: int, fmr: float) -> None:
    if not _is_enough(identities, fmr):
        needed = math.ceil(0.5 + math.sqrt(0.25 + 2 * RULE_OF_3 / fmr))
        raise NotMeasuredError(
            f"--calibrate: a false match rate of {fmr:g} needs at least "
            f"{math.ceil(RULE_OF_3 / fmr)} pairs of identities, which is {needed} identities "
            f"(rule of 3); got {identities}. Ask for a higher rate, or give --thresholds of more"
        )


def _check_order(thresholds: Thresholds) -> None:
    if thresholds.too_similar <= max(thresholds.same_identity, thresholds.privacy):
        raise NotMeasuredError(
            f"--calibrate: this recogniser does not separate these identities: "
            f"{thresholds.fmr:g} of non-mated comparisons score {thresholds.privacy:.4f} or more, "
            f"but {thresholds.diversity:g} of mated ones less than {thresholds.too_similar:.4f}; "
            "take a better recogniser or a higher rate"
        )
