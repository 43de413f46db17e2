"""What may be wrong with pairs that can be read: pure functions of what is measured on images.

Each returns a `Finding`: what was measured and, where that is a reason to look, a warning.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from data.registration import displacement, edge_correlation, edge_strength, overlap
from data.sample_index import describe_unnamed, shorten
from data.sheets import spread_indices

COMPARED_PAIRS = 256  # of a split at most, whose edges are compared and registered
MIN_STANDARD_ERRORS = 2.0  # that a difference of correlations must have
_DUPLICATE_CANDIDATES = 20_000  # among which near-duplicates are looked for

_EDGE_SIDE = 64  # edges are compared at this size
_SMALL_SIDE = 16  # near-duplicates at this one
_REGISTERED_PX = 256  # longest side at which pairs are registered
_MIN_COMPARED = 8
# Seen on clean sets of 16 and 160 pairs: at most 0.14; of 1001, where more others are tried: 0.24.
# Of wrong pairs: mostly 0.2 to 0.5.
_MISMATCH_MARGIN, _MARGIN_PAIRS, _MARGIN_A_DOUBLING = 0.2, 160, 0.04
# Seen between identities of clean sets: at most 0.84. Of copies in another format or brightness:
# at least 0.97.
_NEAR_DUPLICATE = 0.95
_SHIFT_PX = 1.0
_OFFSET_PX = 0.5
# Correlation of edges that a shift must add, at this many pixels a side. Seen on aligned sets: at
# most 0.07 but once 0.18; on sets moved by two or three pixels mostly 0.15 to 0.7. By chance small
# images gain more: of real RGB and NIR at 32 pixels, aligned, 12 % gain 0.1 and 3 % gain 0.2.
_LEAST_SHIFT_GAIN, _SIDE_OF_GAIN = 0.1, 64
_MAX_SHIFTED = 0.1
_MAX_UNCLEAR = 0.8
_COLOURED, _GREY = 8.0, 2.0  # mean difference of the largest and the least channel, of 255
_DARK, _BRIGHT, _FLAT = 20, 235, 8
_MAX_CLIPPED = 0.5
_MAX_PARTIAL = 0.5
_MIN_USED_RANGE = 0.255  # 14 of 16 bits
_BLOCK = 2048
_MAX_COPIES = 10_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An answer of one check.

    Attributes:
        check: its name.
        found: what was measured.
        warning: what may be wrong and what to do; "" where nothing is.
        worst: pairs to look at, the worst first, each with a few words.
        is_measured: False where `found` says why not.
    """

    check: str
    found: str
    warning: str = ""
    is_measured: bool = True
    worst: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is kept of one image.

    Attributes:
        digest: of its pixels.
        small: [256] float32, strength of edges at 16 x 16, without mean and of unit length.
        colour: mean difference of the largest and the least channel, 0..255.
        low, middle, high: 5, 50 and 95 % quantiles of the luma, 0..255.
        black, white: shares of pixels at 0 and at 255.
    """

    digest: str
    small: np.ndarray
    colour: float
    low: float
    middle: float
    high: float
    black: float
    white: float


def look_at(image: Image.Image) -> Look:
    """Measure an image of mode "RGB" or "L"."""
    pixels = np.asarray(image)
    luma = image.convert("L")
    values = np.asarray(luma)
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    spread = np.ptp(pixels, axis=2).mean() if pixels.ndim == 3 else 0.0
    return Look(
        digest=hashlib.sha256(repr(values.shape).encode() + pixels.tobytes()).hexdigest(),
        small=_unit(measure_edges(luma, _SMALL_SIDE)),
        colour=float(spread),
        low=float(low),
        middle=float(middle),
        high=float(high),
        black=float((values == 0).mean()),
        white=float((values == 255).mean()),
    )


def measure_edges(image: Image.Image, side: int = _EDGE_SIDE) -> np.ndarray:
    """Return the strength of an image's edges at `side` x `side`: [P] float32."""
    small = image.convert("L").resize((side, side), Image.Resampling.BOX)
    return np.hypot(*np.gradient(np.asarray(small, dtype=np.float32))).ravel()


def measure_shift(first: Image.Image, second: Image.Image) -> tuple[float, float]:
    """Return the shift (down, right) in pixels from one image of a pair to the other.

    Large images are reduced first. NaN where they differ in size or are too small, and where a
    shift beyond a pixel does not make their edges agree better: such images do not register.
    """
    factor = -(-max(first.size) // _REGISTERED_PX)
    if first.size != second.size or min(first.size) < 8 * factor:
        return np.nan, np.nan
    images = [np.asarray(image.convert("L").reduce(factor)) for image in (first, second)]
    edges = [edge_strength(image) for image in images]
    down, right = displacement(*edges)
    if np.hypot(down, right) > _SHIFT_PX:
        moved = edge_correlation(*overlap(*edges, (round(down), round(right))))
        least = _LEAST_SHIFT_GAIN * max(1.0, _SIDE_OF_GAIN / min(edges[0].shape))
        if moved - edge_correlation(*edges) < least:
            return np.nan, np.nan
    return down * factor, right * factor


def find_offset(shifts: np.ndarray, side: int) -> tuple[float, float] | None:
    """Return the shift (down, right) in pixels that most pairs share, None where they do not.

    Args:
        shifts: [N, 2] float of pairs, NaN where not measured.
        side: longest of the images, in pixels.
    """
    known = shifts[np.isfinite(shifts).all(axis=1)]
    if len(known) < 3:
        return None
    middle = np.median(known, axis=0)
    tolerance = max(1.0, side / _REGISTERED_PX)
    if (np.hypot(*(known - middle).T) <= tolerance).mean() <= 0.5:
        return None
    return float(middle[0]), float(middle[1])


def check_registration(shifts: np.ndarray, pairs: Sequence[int], side: int) -> Finding:
    """Tell how far the second images are from the first ones; arguments as `find_offset`.

    Args:
        pairs: the number of each.
    """
    lengths = np.hypot(*shifts.T)
    known = np.isfinite(lengths)
    unclear = float((~known).mean())
    if unclear > _MAX_UNCLEAR:
        found = f"{unclear:.0%} of the pairs do not register"
        warning = f"{found}: they may show different things, or one image turned or mirrored"
        return Finding(check="registration", found=found, warning=warning * (len(shifts) > 2))
    beyond = float((lengths > _SHIFT_PX).mean())
    offset, where = find_offset(shifts, side), ""
    if offset is not None:
        where = f", constant offset {offset[0]:+.2f} px down and {offset[1]:+.2f} right"
    found = f"median {np.median(lengths[known]):.2f} px, {beyond:.0%} beyond 1 px{where}"
    found += f", {unclear:.0%} unclear" * bool(unclear)
    warning = ""
    if offset is not None and np.hypot(*offset) >= _OFFSET_PX:
        warning = f"NIR lies beside RGB{where}; `import --register` corrects that"
    elif beyond > _MAX_SHIFTED:
        warning = f"images of a pair do not lie on each other: {found}"
    order = [i for i in np.argsort(-lengths) if known[i] and lengths[i] > _SHIFT_PX]
    worst = [(pairs[i], f"shift {lengths[i]:.1f} px") for i in order] if warning else []
    return Finding(check="registration", found=found, warning=warning, worst=worst)


def check_contents(
    edges: np.ndarray,
    offset: tuple[float, float] | None,
    pairs: Sequence[int],
    names: Sequence[str],
) -> Finding:
    """Tell whether images of a pair show the same, against images of other pairs.

    A single pair is wrong where an image of another pair agrees by far better, for both of them.
    Not measured where pairs share an offset beyond a pixel: their edges agree after `--register`.

    Args:
        edges: [N, 2, P] float: strength of edges of both images of each pair.
        offset: see `find_offset`.
        pairs: the number of each.
        names: of all pairs, by number.
    """
    unmeasured = ""
    if len(edges) < 2:
        unmeasured = "fewer than two pairs"
    elif offset is not None and np.hypot(*offset) > _SHIFT_PX:
        unmeasured = "NIR lies beside RGB; after `import --register`"
    if unmeasured:
        return Finding(check="contents", found=f"not measured: {unmeasured}", is_measured=False)
    unit = _unit(edges)
    correlations = unit[:, 0] @ unit[:, 1].T
    diagonal, count = np.diagonal(correlations), len(edges)
    others = (correlations.sum(axis=1) - diagonal) / (count - 1)
    excess = diagonal - others
    error = float(excess.std(ddof=1)) / count**0.5
    found = (
        f"edges correlate by {diagonal.mean():.3f} within pairs and by {others.mean():.3f} across "
        "pairs"
    )
    margins = correlations - np.maximum(diagonal[:, None], diagonal[None])
    np.fill_diagonal(margins, -1)
    partners = margins.argmax(axis=1)
    margin = margins.max(axis=1)
    doublings = max(0.0, np.log2(count / _MARGIN_PAIRS))
    is_wrong = margin > _MISMATCH_MARGIN + _MARGIN_A_DOUBLING * doublings
    words: dict[int, str] = {}
    for i in np.argsort(-margin)[: int(is_wrong.sum())]:
        pair, other = pairs[i], pairs[partners[i]]
        words[pair] = f"fits the NIR of {names[other]}"
        words.setdefault(other, f"its NIR is that of {names[pair]}")
    worst = list(words.items())
    warning = ""
    if count >= _MIN_COMPARED and excess.mean() <= MIN_STANDARD_ERRORS * error:
        warning = f"pairs may be wrongly matched: over {count} pairs, {found}"
    elif worst:
        warning = f"{len(worst)} of {count} pairs may be wrongly matched: {_listed(worst, names)}"
    return Finding(check="contents", found=found, warning=warning, worst=worst)


def check_colours(looks: Mapping[str, Sequence[Look]], names: Sequence[str]) -> Finding:
    """Tell colour in NIR files, grey RGB files, and folders that are swapped.

    Args:
        looks: of "rgb" and "nir" by pair, at images read with three channels.
        names: of the pairs.
    """
    grey = [i for i, look in enumerate(looks["rgb"]) if look.colour < _GREY and look.high > _DARK]
    coloured = [i for i, look in enumerate(looks["nir"]) if look.colour > _COLOURED]
    count = len(names)
    found = f"{len(grey)} RGB files are grey, {len(coloured)} NIR files have colours"
    warning = ""
    if min(len(grey), len(coloured)) > count / 2:
        warning = f"the folders look swapped: {found}, of {count}"
    elif grey:
        warning = f"{len(grey)} of {count} RGB files are grey: {shorten([names[i] for i in grey])}"
    if coloured and len(grey) <= count / 2:
        listed = shorten([names[i] for i in coloured])
        warning += "; " * bool(warning)
        warning += f"{len(coloured)} of {count} NIR files have colours, of which luma is taken: "
        warning += listed
    worst = [(i, "RGB is grey") for i in grey]
    worst += [(i, "NIR has colours") for i in coloured]
    return Finding(check="colours", found=found, warning=warning, worst=worst)


def check_exposure(looks: Mapping[str, Sequence[Look]], names: Sequence[str]) -> Finding:
    """Tell images that are black, white, flat or clipped; looks of each modality by pair."""
    parts, worst = [], []
    for modality, own in looks.items():
        middle = np.median([look.middle for look in own])
        black, white = (np.mean([getattr(look, end) for look in own]) for end in ("black", "white"))
        parts.append(f"{modality} median {middle:.0f}, {black:.1%} at 0, {white:.1%} at 255")
        for pair, look in enumerate(own):
            what = _describe_exposure(look)
            worst += [(pair, f"{modality} {what}")] * bool(what)
    warning = f"{len(worst)} images are badly exposed: {_listed(worst, names)}" if worst else ""
    return Finding(check="exposure", found="; ".join(parts), warning=warning, worst=worst)


def check_range(largest: Mapping[str, float]) -> Finding:
    """Tell images of few values, which are read too dark.

    Args:
        largest: modality -> largest stored value of the set's images with more than 8 bits, as a
            part of what becomes 255; modalities without such images have no key.
    """
    found = ", ".join(f"{name} uses {share:.1%}" for name, share in largest.items())
    few = [name for name, share in largest.items() if share < _MIN_USED_RANGE]
    warning = ""
    if few:
        warning = (
            f"images of more than 8 bits use a small part of their range ({found}) and come out "
            "dark; `import` finds the range, and --range gives it"
        )
    return Finding(check="range", found=found or "8 bits", warning=warning)


def partial_share(alpha: np.ndarray) -> float:
    """Return the share of pixels that are neither transparent nor opaque."""
    most = np.iinfo(alpha.dtype).max
    return float(((alpha > 0) & (alpha < most)).mean())


def check_layers(
    frames: Mapping[str, Sequence[int]], alpha: Mapping[str, Sequence[float]], names: Sequence[str]
) -> Finding:
    """Tell files of which something is left out: further frames or pages, NIR in alpha.

    Args:
        frames: number in the files of each modality, by pair.
        alpha: share of partly transparent pixels, likewise. Few are the border of a cut-out.
        names: of the pairs.
    """
    several = [
        (pair, f"{modality} has {count} frames")
        for modality, counts in frames.items()
        for pair, count in enumerate(counts)
        if count > 1
    ]
    mixed = [
        (pair, f"{modality} has alpha")
        for modality, shares in alpha.items()
        for pair, share in enumerate(shares)
        if share > _MAX_PARTIAL
    ]
    warnings = []
    if several:
        what = f"only the first frame or page is taken of {len(several)} files"
        warnings.append(f"{what}: {_listed(several, names)}")
    if mixed:
        warnings.append(
            f"{len(mixed)} files are partly transparent all over and composited over black: "
            f"{_listed(mixed, names)}; where alpha is NIR, `import --nir-from=alpha`"
        )
    return Finding(
        check="layers",
        found=f"{len(several)} files of several frames, {len(mixed)} partly transparent all over",
        warning="; ".join(warnings),
        worst=[*several, *mixed],
    )


def check_duplicates(
    looks: Mapping[str, Sequence[Look]],
    names: Sequence[str],
    identities: Sequence[str],
    splits: Sequence[str],
) -> Finding:
    """Tell images that are there twice, under several identities or in several splits.

    Copies are exact in at least one modality, or nearly so in all: compressed again, in another
    size or brightness. Those of one identity in one split are counted alone.

    Args:
        looks: of each modality by pair.
        names, identities, splits: of the pairs.
    """
    groups = np.unique(
        [f"{s}\n{i}" for s, i in zip(splits, identities, strict=True)], return_inverse=True
    )[1]
    exact = [c for own in looks.values() for c in _same_digests([look.digest for look in own])]
    inside = {j for i, j in exact if groups[i] == groups[j]}
    chosen = spread_indices(len(names), _DUPLICATE_CANDIDATES)
    small = np.stack([[own[k].small for k in chosen] for own in looks.values()])
    near = islice(_near_pairs(small, groups[chosen]), _MAX_COPIES)
    pairs = [*exact, *((chosen[i], chosen[j]) for i, j in near)]
    pairs = [(i, j) for i, j in pairs if groups[i] != groups[j]]
    copies = {(i, j): _describe_copy(looks, i, j) for i, j in pairs}
    count = len({j for _, j in copies})
    leaks = len({j for i, j in copies if splits[i] != splits[j]})
    found = f"{count} across identities or splits, {len(inside)} exact ones within"
    warning = ""
    if copies:
        listed = shorten([f"{names[i]} and {names[j]} ({what})" for (i, j), what in copies.items()])
        warning = f"{count} pairs are copies of pairs of other identities or splits"
        warning += f", {leaks} of them in several splits (a leak)" * bool(leaks)
        warning += f": {listed}"
    worst = [(i, f"{what}: {names[j]}") for (i, j), what in copies.items()]
    return Finding(check="duplicates", found=found, warning=warning, worst=worst)


def check_identities(
    names: Sequence[str], identities: Sequence[str], splits: Sequence[str]
) -> Finding:
    """Tell how many images identities have, and whether splits share some."""
    counts = sorted(Counter(identities).values())
    found = (
        f"{len(counts)} identities of {counts[0]} to {counts[-1]} images, "
        f"median {counts[len(counts) // 2]}"
    )
    splits_of: dict[str, set[str]] = {}
    for identity, split in zip(identities, splits, strict=True):
        splits_of.setdefault(identity, set()).add(split)
    shared = [identity for identity, own in splits_of.items() if len(own) > 1]
    unnamed = describe_unnamed(names, identities)
    found += f"; {unnamed}" * bool(unnamed)
    warning = f"{len(shared)} identities are in several splits (a leak): {shorten(shared)}"
    return Finding(check="identities", found=found, warning=warning * bool(shared))


def _unit(values: np.ndarray) -> np.ndarray:
    """Return vectors without their mean and of unit length; constant ones are zero."""
    centred = values - values.mean(axis=-1, keepdims=True)
    norms = np.linalg.norm(centred, axis=-1, keepdims=True)
    return centred / np.where(norms > 0, norms, 1)


def _listed(worst: Sequence[tuple[int, str]], names: Sequence[str]) -> str:
    """Return the first few pairs by name, each with what is said of it."""
    return shorten([f"{names[pair]} ({words})" for pair, words in worst])


def _describe_exposure(look: Look) -> str:
    """Return what is wrong with an image's exposure, "" where nothing is."""
    if look.high <= _DARK:
        return "nearly black"
    if look.low >= _BRIGHT:
        return "nearly white"
    if look.high - look.low <= _FLAT:
        return "flat"
    return "clipped" if look.white > _MAX_CLIPPED else ""


def _same_digests(digests: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield each image that was there before, with the first of its kind."""
    first: dict[str, int] = {}
    for pair, digest in enumerate(digests):
        if first.setdefault(digest, pair) != pair:
            yield first[digest], pair


def _describe_copy(looks: Mapping[str, Sequence[Look]], first: int, second: int) -> str:
    """Return which images two pairs share."""
    same = [name for name, own in looks.items() if own[first].digest == own[second].digest]
    return f"same {' and '.join(same)}" if same else "nearly the same"


def _near_pairs(small: np.ndarray, groups: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield pairs of different groups that agree in all modalities; `small`: [modalities, N, P]."""
    for start in range(0, len(groups), _BLOCK):
        rows = slice(start, start + _BLOCK)
        agree = np.triu(groups[rows, None] != groups[start:], 1)
        for own in small:
            agree &= own[rows] @ own[start:].T >= _NEAR_DUPLICATE
        for i, j in zip(*np.nonzero(agree), strict=True):
            yield int(start + i), int(start + j)
