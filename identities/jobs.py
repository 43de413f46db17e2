"""The jobs of generate_recognition_data.py: a data set of new identities, or thresholds alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biometrics.thresholds import Thresholds, calibrate
from dnnlib import config as configs
from dnnlib import files
from dnnlib.options import Job, Progress
from dnnlib.runs import find_output
from dnnlib.text import parse_numbers
from identities.candidates import CandidateSampler
from identities.filter_loading import (
    LoadedFilter,
    load_filter,
    load_identities,
    thresholds_path,
)
from identities.identity_sources import (
    FileSource,
    IdentitySource,
    MixupSource,
    RandomSource,
    RepelledSource,
)
from identities.options import FilterOptions, IdentityDataOptions
from identities.recognition_dataset import RECORD, IdentityDataJob
from identities.reports import describe_thresholds, write_thresholds_and_plot
from identities.rules import Preset
from networks.options import Truncation
from networks.sampling import Sampler
from networks.snapshot import Snapshot, load_generator
from torch_utils.checkpoints import state_sha256
from torch_utils.devices import resolve_repeatable
from torch_utils.distributed import is_launched, local_rank

ATTEMPTS_PER_SAMPLE = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationJob(Job):
    """Thresholds of a recogniser, to be written with their plot."""

    path: Path
    thresholds: Thresholds

    def describe(self) -> dict[str, Any]:
        """Return the thresholds and what other rates would give."""
        return {
            "file": str(self.path),
            "thresholds": describe_thresholds(self.thresholds).splitlines(),
        }

    def run(self, progress: Progress) -> str:
        """Write the thresholds and their plot."""
        write_thresholds_and_plot(self.path, self.thresholds)
        return describe_thresholds(self.thresholds)


def prepare(options: IdentityDataOptions) -> Job:
    """Read the networks and the training identities' features, and check that they fit.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    number = local_rank() if is_launched() else options.gpu_device_number
    device = resolve_repeatable(options.device, number)
    wanted = replace(options.filter, device=device)
    if options.gen_model is None and wanted.calibrate is not None:
        return _prepare_calibration(wanted, wanted.calibrate)
    if options.gen_model is None or options.outdir is None:
        missing = "--gen_model" if options.gen_model is None else "--outdir"
        raise ValueError(f"{missing} is missing; only --calibrate alone goes without")
    if wanted.max_attempts is None and wanted.rules is not Preset.PUBLISHED:
        wanted = replace(wanted, max_attempts=ATTEMPTS_PER_SAMPLE * options.amount.samples)
    generator, snapshot = load_generator(options.gen_model, device)
    if generator.config.c_dim == 0:
        raise ValueError(
            f"--gen_model {options.gen_model}: is unconditional, it generates no identity at will; "
            "train with --cond=1"
        )
    truncation = Truncation(psi=options.truncation)
    images = Sampler(generator, truncation=truncation, micro_batch=options.micro_batch)
    loaded = load_filter(wanted, options.audit)
    sampler, about = _make_sampler(options, images, snapshot, loaded)
    identity = {
        **configs.to_dict(options.amount),
        "truncation": options.truncation,
        "micro_batch": images.micro_batch,
        "modalities": list(images.modalities),
        "export": options.export.value,
        "network_sha256": state_sha256(generator.state_dict()),
        "people": about,
        "filter": loaded.describe(),
        "audit": None if loaded.auditor is None else loaded.auditor.embedder.hash,
    }
    return IdentityDataJob(
        output=find_output(options.outdir, RECORD, identity, fresh=options.fresh),
        options=options,
        sampler=sampler,
        loaded=loaded,
        source=snapshot.describe_origin(options.gen_model),
    )


def _prepare_calibration(wanted: FilterOptions, fmr: float) -> CalibrationJob:
    features, embedder = load_identities(wanted.training_ids, wanted.rec_model, wanted.device)
    found = calibrate(features, fmr=fmr, recogniser=embedder.hash, device=wanted.device)
    return CalibrationJob(path=thresholds_path(wanted), thresholds=found)


def _make_sampler(
    options: IdentityDataOptions, images: Sampler, snapshot: Snapshot, loaded: LoadedFilter
) -> tuple[CandidateSampler, dict[str, Any]]:
    """Return what generates candidates, and what decides them as plain JSON values."""
    width = loaded.scorer.embedder.width
    if images.c_dim != width:
        raise ValueError(
            f"--gen_model {options.gen_model}: takes conditions of {images.c_dim} numbers, but "
            f"--rec_model gives {width}"
        )
    source, name = _make_source(options, loaded)
    scale = options.feature_scale or snapshot.new_feature_scale(loaded.features.vectors)
    variation, layers = "own", ()
    if options.shared_variation:
        variation, layers = "shared", tuple(range(images.generator.num_ws))
    if options.mix_layers is not None:
        variation = "mixed"
        try:
            layers = parse_numbers(options.mix_layers)
        except ValueError as error:
            raise ValueError(f"--mix-layers: {error}") from error
    sampler = CandidateSampler(
        images,
        source,
        seed=options.seed,
        scale=scale,
        shared_layers=layers,
        is_null=options.null_control,
    )
    if options.null_control and source.tries is not None:
        raise ValueError("--null-control needs another --identity-source than a file")
    about = {"source": name, "seed": options.seed, "scale": scale, "variation": variation}
    null = {"null_control": True} if options.null_control else {}
    return sampler, {**about, "mix_layers": options.mix_layers, **null}


def _make_source(options: IdentityDataOptions, loaded: LoadedFilter) -> tuple[IdentitySource, str]:
    """Return the source, and its name or its file's hash."""
    name, width = options.identity_source, loaded.scorer.embedder.width
    if name == "random":
        return RandomSource(width), name
    if name == "interpolate":
        return MixupSource(loaded.features), name
    if name == "repelled":
        return RepelledSource(loaded.features), name
    source = FileSource(Path(name), width)
    if options.amount.identities > len(source):
        raise ValueError(f"--ids must be at most {len(source)}, the vectors in {name}")
    return source, files.sha256_file(Path(name))
