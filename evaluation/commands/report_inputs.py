"""What `evaluate.py report` is made of: opened and checked before the first image is embedded.

A wrong option ends the command here; what lacks data is a gap of the page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dnnlib import cli
from evaluation.commands import privacy, shared
from evaluation.commands.masks import OpenMasks, open_masks
from evaluation.commands.tools import Tools

if TYPE_CHECKING:
    from data.sample_index import SampleIndex
    from evaluation.names import Metric
    from evaluation.quality import QualityStudy
    from evaluation.studies import Attributes, Faces, Features
    from networks.sampling import IndexedSampler

_DRAWN = 2000
_EXTRACTOR_ADVICE = "no --extractor was given; --extractor=standin needs no file"


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportInputs:
    """Inputs of a report.

    Attributes:
        sets: "samples", "data" and perhaps "heldout".
        faces: of the recogniser and the auditing one, as far as they are given.
        quality: the study of image quality, or why there is none.
        masks: to compare, where they are given.
        features: for diversity D, where an extractor is given.
        attributes: of "samples" and "data".
        thresholds: FMR -> cosine, as given.
        seed: of resampling.
        device: "cpu" or "cuda:N".
    """

    sets: "Mapping[str, SampleIndex]"
    faces: "Sequence[Faces]"
    quality: "QualityStudy | str"
    masks: OpenMasks | None
    features: "Features | None"
    attributes: "Mapping[str, Attributes | None]"
    thresholds: Mapping[float, float]
    seed: int
    device: str

    @property
    def first_faces(self) -> "Faces | None":
        """Of the recogniser that is not the auditing one."""
        return self.faces[0] if self.faces else None


def read_inputs(tools: Tools, given: Mapping[str, Any]) -> ReportInputs:
    """Open everything that options name.

    Args:
        tools: loaders of networks.
        given: parameter -> value, of the command.
    Raises: ValueError or FileNotFoundError naming the option or file that is wrong.
    """
    from evaluation.names import parse_metrics  # noqa: PLC0415
    from evaluation.studies import read_attributes  # noqa: PLC0415

    if given["audit_model"] is not None and given["rec_model"] is None:
        raise ValueError("--audit-model needs --rec-model, which it is compared with")
    names, device = given["metric_names"], shared.resolve_device(given["device"])
    metrics = None if names is None else parse_metrics(names)
    sets = shared.open_sets({role: given[role] for role in ("samples", "data", "heldout")})
    sampler = _open_snapshot(given, device)
    return ReportInputs(
        sets=sets,
        faces=privacy.all_faces(tools, given, sets),
        masks=open_masks(*given["masks"]) if given["masks"] else None,
        features=shared.diversity_features(given["extractor"], device),
        quality=_prepare_quality(sets, given, metrics, sampler),
        attributes={role: read_attributes(sets[role]) for role in ("samples", "data")},
        thresholds=given["thresholds"],
        seed=given["seed"],
        device=device,
    )


def _open_snapshot(given: Mapping[str, Any], device: str) -> "IndexedSampler | None":
    from networks.sampling import load_sampler  # noqa: PLC0415

    if given["network"] is None:
        return None
    return load_sampler(given["network"], data=given["data"], seed=given["seed"], device=device)


def _prepare_quality(
    sets: "Mapping[str, SampleIndex]",
    given: Mapping[str, Any],
    metrics: "tuple[Metric, ...] | None",
    sampler: "IndexedSampler | None",
) -> "QualityStudy | str":
    """Return the study, or why there is none: only metrics that nobody named may not fit."""
    from evaluation.names import parse_metrics  # noqa: PLC0415
    from evaluation.quality import QualityOptions, prepare_quality  # noqa: PLC0415

    if given["extractor"] is None:
        return _EXTRACTOR_ADVICE
    count = len(sets["samples"]) if sampler is None else _DRAWN
    default = _default_metrics(count, list(sets["samples"].modalities))
    try:
        return prepare_quality(
            QualityOptions(
                metrics=parse_metrics(default) if metrics is None else metrics,
                network=given["network"],
                images=given["samples"] if sampler is None else None,
                data=given["data"],
                extractor=given["extractor"],
                seed=given["seed"],
                device=shared.resolve_device(given["device"]),
            ),
            sampler=sampler,
            progress=cli.progress_bar,
        )
    except (ValueError, FileNotFoundError) as error:
        if metrics is not None:
            raise
        return str(error)


def _default_metrics(count: int, modalities: Sequence[str]) -> str:
    from data.modalities import MODALITIES  # noqa: PLC0415

    kinds = (f"fid{count}_full", f"pr{count}3_full", f"dc{count}5_full", f"vendi{count}")
    endings = {modality.name: modality.suffix for modality in MODALITIES}
    return ",".join(f"{kind}{endings[name]}" for kind in kinds for name in modalities)
