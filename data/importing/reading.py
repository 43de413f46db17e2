"""How the images of an import are read, decided over the whole set and said aloud."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from data import doctor, pixels, stored
from data.check import View, examine, view_pair
from data.importing.options import ImportOptions
from data.registration import common_box, edge_correlation
from data.sample_index import SampleIndex, describe_unnamed
from data.sheets import spread_indices
from data.storage import map_in_threads
from data.stored import FULL_16_BIT, Limits, Reading

Headers = Mapping[str, pixels.ImageHeader]  # modality -> header

SAMPLED_PAIRS = 64  # that are decoded for decisions and checks
_LEAST_TURNING_GAIN = 0.05  # of correlation, that tells whether an orientation is applied
_LEAST_OFFSET_PX = 0.1
_UPRIGHT = 1


@dataclass(frozen=True, kw_only=True)
class SetReading:
    """How the images of a set are read.

    Attributes:
        readings: of each modality.
        orientations: stem -> orientation of both images, where that in the files is not taken.
        offset: shift (down, right) in pixels of the second images that is corrected, or None.
        notes: what was decided, in words.
        warnings: what may be wrong with the set.
    """

    readings: Mapping[str, Reading]
    orientations: Mapping[str, int]
    offset: tuple[float, float] | None = None
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()

    def reading(self, modality: str, stem: str) -> Reading:
        """Return how one image is read."""
        return replace(self.readings[modality], orientation=self.orientations.get(stem))

    def sizes(self, stem: str, headers: Headers) -> list[tuple[int, int]]:
        """Return (width, height) of a pair's images as they are cropped."""
        sizes = [_size(header, self.orientations.get(stem)) for header in headers.values()]
        if self.offset is None or len(set(sizes)) > 1:
            return sizes
        left, upper, right, lower = common_box(sizes[0], self.offset)
        return [(max(right - left, 0), max(lower - upper, 0))] * len(sizes)

    def register(self, images: Mapping[str, Image.Image]) -> dict[str, Image.Image]:
        """Return a pair's images cut to what both show, the second one moved."""
        sizes = {image.size for image in images.values()}
        if self.offset is None or len(sizes) > 1:
            return dict(images)
        (first, reference), *others = images.items()
        down, right = self.offset
        box = common_box(reference.size, self.offset)
        moved = (box[0] + right, box[1] + down, box[2] + right, box[3] + down)
        size = (box[2] - box[0], box[3] - box[1])
        lanczos = Image.Resampling.LANCZOS
        return {
            first: reference.crop(box),
            **{name: image.resize(size, lanczos, box=moved) for name, image in others},
        }

    def record(self, stem: str) -> dict[str, Any]:
        """Return what decides a pair's pixels beside its files, {} where nothing does."""
        values = {
            "limits": [r.limits for r in self.readings.values() if r.limits is not None],
            "orientation": self.orientations.get(stem),
            "offset": self.offset,
        }
        return {name: value for name, value in values.items() if value}


def decide_reading(
    pairs: SampleIndex, headers: Mapping[int, Headers], options: ImportOptions
) -> SetReading:
    """Decide on range, orientation and offset, and look at a sample of the pairs.

    Args:
        pairs: all that were matched.
        headers: of those with readable ones.
        options: of the import.
    Raises: ValueError where a range is not known, or --register finds no offset.
    """
    readings, notes = options.parse_readings(), []
    for modality, reading in readings.items():
        deep = {p: found[modality] for p, found in headers.items() if found[modality].bits > 8}
        if deep:
            limits, note = _decide_range(pairs, modality, deep, reading, options)
            readings[modality] = replace(reading, limits=limits)
            notes.append(note)
        elif reading.limits is not None:
            notes.append(f"{modality}: --range changes nothing, as no image has more than 8 bits")
    chosen, words = _decide_orientations(pairs, headers, readings, options)
    notes += words
    stems = [pairs.stems[pair] for pair in headers]
    unnamed = describe_unnamed(stems, [pairs.identities[pair] for pair in headers])
    notes += [unnamed] * bool(unnamed)
    decided = SetReading(readings=readings, orientations=chosen)
    sample = [list(headers)[i] for i in spread_indices(len(headers), SAMPLED_PAIRS)]
    whole = _view(pairs, sample, decided, options)
    if options.register:
        offset, note = _decide_offset([*whole.values()])
        decided = replace(decided, offset=offset)
        notes.append(note)
        if offset is not None:  # what is left of it, and whether the pairs then fit
            whole = _view(pairs, [*whole], decided, options)
    names = [pairs.stems[pair] for pair in whole]
    identities = [pairs.identities[pair] for pair in whole]
    found = examine([*whole.values()], names, identities, [""] * len(names))
    findings = {finding.check: finding for finding in found}
    alpha = {pair: view.alpha for pair, view in whole.items()}
    findings["layers"] = doctor.check_layers(
        {m: [own[m].frames for own in headers.values()] for m in readings},
        {m: [alpha.get(pair, {}).get(m, 0.0) for pair in headers] for m in readings},
        stems,
    )
    if options.nir_from is not None:
        findings.pop("layers")
    warnings = [finding.warning for finding in findings.values() if finding.warning]
    if warnings and len(whole) < len(headers):
        warnings.append(f"these are of {len(whole)} of {len(headers)} pairs; check the written set")
    return replace(decided, notes=tuple(notes), warnings=tuple(warnings))


def _view(
    pairs: SampleIndex, sample: Sequence[int], decided: SetReading, options: ImportOptions
) -> dict[int, View]:
    """Return pair -> what is measured on it, as it is cropped, of those without damage."""

    def view(pair: int) -> View:
        stem = pairs.stems[pair]
        readings = {name: decided.reading(name, stem) for name in decided.readings}
        return view_pair(pairs, pair, readings, is_compared=True, register=decided.register)

    views = map_in_threads(view, sample, options.workers)
    return {pair: found for pair, found in zip(sample, views, strict=True) if not found.damage}


def _decide_range(
    pairs: SampleIndex,
    modality: str,
    deep: Mapping[int, pixels.ImageHeader],
    reading: Reading,
    options: ImportOptions,
) -> tuple[Limits | None, str]:
    """Return the range of a modality's images of more than 8 bits, and what is said of it."""
    if reading.limits is not None:
        low, high = reading.limits
        return reading.limits, f"{modality}: {low:g}..{high:g} become 0..255, as given"

    def measure(pair: int) -> tuple[float, float, bool] | None:
        try:
            with pairs.open(modality, pair) as file:
                values = stored.read_values(file, pairs.describe(modality, pair), reading)
                values = stored.split_alpha(values)[0]
        except ValueError:  # told when the pair is written
            return None
        return float(values.min()), float(values.max()), values.dtype.kind == "f"

    results = [found for found in map_in_threads(measure, [*deep], options.workers) if found]
    results = [found for found in results if np.isfinite(found[:2]).all()]
    if not results:
        return None, f"{modality}: no range found"
    lows, highs, kinds = zip(*results, strict=True)
    low, high, is_float = min(lows), max(highs), any(kinds)
    try:
        limits = stored.find_limits(low, high, is_float=is_float)
    except ValueError as error:
        raise ValueError(f"{modality} images: {error}") from error
    note = (
        f"{modality}: {len(deep)} images of more than 8 bits have values {low:g}..{high:g}; "
        f"{limits[0]:g}..{limits[1]:g} become 0..255 (--range)"
    )
    # The whole range has always been read so; of colours Pillow gives the upper byte.
    is_usual = limits == FULL_16_BIT and not is_float
    is_usual &= not any(header.has_deep_planes for header in deep.values())
    return (None if is_usual else limits), note


def _decide_orientations(
    pairs: SampleIndex,
    headers: Mapping[int, Headers],
    readings: Mapping[str, Reading],
    options: ImportOptions,
) -> tuple[dict[str, int], list[str]]:
    """Return stem -> orientation where that in the files is not taken, and what is said of it."""
    stated = {pair: [h.orientation for h in found.values()] for pair, found in headers.items()}
    turned = {pair: own for pair, own in stated.items() if set(own) != {_UPRIGHT}}
    mixed = {pair: own for pair, own in turned.items() if len(set(own)) > 1}
    upright = {pairs.stems[pair]: _UPRIGHT for pair in turned}
    if options.exif == "ignore":
        return upright, [f"orientation of {len(turned)} pairs ignored"] * bool(turned)
    if options.exif == "both":
        both = {pairs.stems[p]: next(o for o in own if o != _UPRIGHT) for p, own in mixed.items()}
        return both, [f"orientation of one file turns both of {len(both)} pairs"] * bool(both)
    if options.exif == "apply" or not mixed:
        return {}, []
    sample = [list(mixed)[i] for i in spread_indices(len(mixed), SAMPLED_PAIRS)]

    agreements = [
        _agreements(pairs, sample, SetReading(readings=readings, orientations=chosen), options)
        for chosen in (upright, {})
    ]
    known = [pair for pair in sample if all(pair in found for found in agreements)]
    gains = np.array([agreements[0][pair] - agreements[1][pair] for pair in known])
    gain = float(gains.mean()) if len(gains) else 0.0
    error = float(gains.std(ddof=1)) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    what = f"{len(mixed)} pairs whose files state different orientations"
    if abs(gain) <= max(doctor.MIN_STANDARD_ERRORS * error, _LEAST_TURNING_GAIN):
        return {}, [f"{what}: applied; the images do not tell whether that is right (--exif)"]
    better = f"edges correlate by {abs(gain):.2f} more"
    if gain < 0:
        return {}, [f"{what}: applied, as {better} than without (--exif)"]
    note = f"{what}: ignored, as {better} than with it (--exif; both turns both images)"
    return {pairs.stems[pair]: _UPRIGHT for pair in mixed}, [note]


def _agreements(
    pairs: SampleIndex, sample: Sequence[int], decided: SetReading, options: ImportOptions
) -> dict[int, float]:
    """Return pair -> correlation of its images' edges, -1 for sizes that differ."""
    found = {}
    for pair, view in _view(pairs, sample, decided, options).items():
        sizes = {(header.width, header.height) for header in view.headers.values()}
        found[pair] = edge_correlation(*view.edges) if len(sizes) == 1 else -1.0
    return found


def _size(header: pixels.ImageHeader, orientation: int | None) -> tuple[int, int]:
    """Return (width, height) where `orientation` takes the place of the stated one."""
    size = (header.width, header.height)
    if orientation is None or (orientation in pixels.SIDEWAYS) == header.is_sideways:
        return size
    return size[1], size[0]


def _decide_offset(views: Sequence[View]) -> tuple[tuple[float, float] | None, str]:
    """Return the offset to correct, None for hardly any, and what is said of it."""
    shifts = np.array([view.shift for view in views]).reshape(-1, 2)
    side = max((max(h.width, h.height) for v in views for h in v.headers.values()), default=0)
    offset = doctor.find_offset(shifts, side)
    if offset is None:
        raise ValueError(
            f"--register: {len(views)} pairs share no offset; it is meant for two fixed cameras"
        )
    words = f"NIR lies {offset[0]:+.2f} px down and {offset[1]:+.2f} right of RGB"
    if np.hypot(*offset) < _LEAST_OFFSET_PX:
        return None, f"{words}: nothing to correct"
    return offset, f"{words}: corrected (--register)"
