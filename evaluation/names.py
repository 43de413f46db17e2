"""Names of metrics: the published ones, with any number of images, and what may be called FID.

Imports no torch: the options of commands are checked by it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from data.modalities import JOINT, MODALITIES, RGB
from dnnlib.config import suggest
from metrics import NotMeasuredError

EXAMPLES = ("fid50k_full", "kid50k_full", "pr50k3_full", "dc50k5_full", "is50k", "vendi50k")
EXAMPLES += ("ppl2_wend", "ppl_zfull", "ppl_wfull", "ppl_zend")
EXTRACTORS = "reference[:DIR], torch-fidelity[:FILE], standin, torchscript:FILE, recogniser:FILE"
_PPL_COUNT = 50_000
_SUFFIXES = {**{modality.suffix: modality.name for modality in MODALITIES}, f"_{JOINT}": JOINT}
_VIEW = "(?P<view>" + "|".join(sorted(filter(None, _SUFFIXES))) + ")?"
_COUNT = r"(?P<count>[1-9]\d{0,6}k?)"
_PATTERNS = (
    re.compile(rf"(?P<kind>fid|kid){_COUNT}(?P<full>_full)?{_VIEW}"),
    re.compile(rf"(?P<kind>pr|dc){_COUNT}(?P<k>[1-9])(?P<full>_full)?{_VIEW}"),
    re.compile(rf"(?P<kind>is|vendi){_COUNT}{_VIEW}"),
    re.compile(
        rf"(?P<kind>ppl)(?P<version>2?)_(?P<space>[zw])(?P<where>full|end)(_{_COUNT})?{_VIEW}"
    ),
)


class Kind(StrEnum):
    """What is measured."""

    FID = "fid"
    KID = "kid"
    PR = "pr"
    DC = "dc"
    IS = "is"
    VENDI = "vendi"
    PPL = "ppl"


class Role(StrEnum):
    """An output of a feature network; in the published metrics two networks have these four."""

    FEATURES = "features"  # Inception's 2048 numbers before the classes
    PROBABILITIES = "probabilities"  # Inception's classes
    MANIFOLD = "manifold"  # VGG-16's 4096 numbers
    PERCEPTUAL = "perceptual"  # VGG-16's LPIPS numbers, whose squared distance counts


_ROLES = {
    Kind.FID: Role.FEATURES,
    Kind.KID: Role.FEATURES,
    Kind.VENDI: Role.FEATURES,
    Kind.IS: Role.PROBABILITIES,
    Kind.PR: Role.MANIFOLD,
    Kind.DC: Role.MANIFOLD,
    Kind.PPL: Role.PERCEPTUAL,
}
_LEAST = {Kind.FID: 2, Kind.KID: 2, Kind.IS: 10}  # a covariance; the parts of a score
# Published abbreviations that name their network: with another one they are called otherwise.
_OTHER_NAMES = {Kind.FID: "fd", Kind.KID: "kd"}
_TITLES = {Kind.VENDI: "Vendi"}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One measurement.

    Attributes:
        name: as it was asked for.
        kind: what is measured.
        count: generated images; for PPL pairs of them.
        view: modality that is looked at, or "joint".
        is_full: all real images count instead of at most `count`, the first by name.
        k: which neighbour gives the radius; 0 where there are no neighbours.
        space: of PPL, "z" or "w"; "" elsewhere.
        is_end: PPL at the ends of paths only.
        is_cropped: PPL of the middle of the image, where a face is.
    """

    name: str
    kind: Kind
    count: int
    view: str
    is_full: bool = False
    k: int = 0
    space: str = ""
    is_end: bool = False
    is_cropped: bool = False

    @property
    def role(self) -> Role:
        """The output that it needs of a network."""
        return _ROLES[self.kind]

    @property
    def needs_real(self) -> bool:
        """Whether real images are compared with."""
        return self.kind in (Kind.FID, Kind.KID, Kind.PR, Kind.DC)

    @property
    def least(self) -> int:
        """Fewest images, of either kind, that have this number."""
        return self.k + 1 if self.k else _LEAST.get(self.kind, 1)

    def check_count(self, count: int, whose: str) -> None:
        """Refuse fewer images than `least`; `whose` tells where they are. Raises: ValueError."""
        if count < self.least:
            raise NotMeasuredError(
                f"metric {self.name}: needs at least {self.least} images, {whose} {count}"
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities whose images are looked at."""
        return tuple(m.name for m in MODALITIES) if self.view == JOINT else (self.view,)

    def names(self, other: str = "") -> tuple[str, str]:
        """Return the name of results, and what tables show; published ones without `other`.

        >>> parse_metric("fid2k_full").names()
        ('fid2k_full', 'FID')
        >>> parse_metric("fid2k_full").names("my-net")
        ('fd2k_full.my-net', 'FD(my-net)')

        Args:
            other: network in the published one's place.
        """
        short = _OTHER_NAMES.get(self.kind, self.kind.value) if other else self.kind.value
        label = _TITLES.get(self.kind, short.upper())
        if not other:
            return self.name, label
        return f"{short}{self.name[len(self.kind) :]}.{other}", f"{label}({other})"


def parse_metric(name: str) -> Metric:
    """Return the metric of a name.

    >>> parse_metric("fid2k_full_NIR").count, parse_metric("fid2k_full_NIR").view
    (2000, 'nir')

    Raises: ValueError for an unknown name or one that has no meaning.
    """
    match = next(filter(None, (pattern.fullmatch(name) for pattern in _PATTERNS)), None)
    if match is None:
        raise ValueError(
            f"metric {name[:80]!r} is not known{suggest(name, EXAMPLES)}; known are, with any count"
            f" and with _NIR or _joint behind, {', '.join(EXAMPLES)}"
        )
    found = match.groupdict()
    kind = Kind(found["kind"])
    metric = Metric(
        name=name,
        kind=kind,
        count=_parse_count(found["count"]),
        view=_SUFFIXES[found["view"]] if found["view"] else RGB.name,
        is_full=bool(found.get("full")),
        k=int(found.get("k") or 0),
        space=found.get("space") or "",
        is_end=found.get("where") == "end",
        is_cropped=kind is Kind.PPL and not found["version"],
    )
    if metric.view == JOINT and kind in (Kind.IS, Kind.PPL):
        raise ValueError(f"metric {name!r}: {kind.upper()} is of one modality, not joint")
    metric.check_count(metric.count, "its name asks for")
    return metric


def parse_metrics(text: str) -> tuple[Metric, ...]:
    """Return the metrics of a list such as "fid2k_full,kid2k_full_NIR"; none for "none".

    Raises: ValueError for an unknown name, or one that is given twice.
    """
    names: Sequence[str] = [] if text.strip() == "none" else [n.strip() for n in text.split(",")]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"metric {twice[0]!r} is given twice")
    return tuple(parse_metric(name) for name in names)


def _parse_count(text: str | None) -> int:
    if text is None:
        return _PPL_COUNT
    return int(text.removesuffix("k")) * (1000 if text.endswith("k") else 1)
