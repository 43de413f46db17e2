"""The jobs of generate_recognition_data.py: a data set of new identities, or thresholds alone."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from biometrics.thresholds import THRESHOLDS_FILE, Thresholds, calibrate, write_thresholds
from data.sheets import save_image
from dnnlib import config as configs
from dnnlib import files
from dnnlib.options import Job, JobError, Progress
from dnnlib.runs import FolderJob, find_output
from dnnlib.text import parse_numbers
from identities.audit import Auditor, load_auditor, rgb_names
from identities.candidates import CandidateSampler, Variation
from identities.export import export_manifest
from identities.filter_loading import (
    LoadedFilter,
    load_filter,
    load_identities,
    thresholds_path,
)
from identities.identity_sources import FileSource, IdentitySource, MixupSource, RandomSource
from identities.options import FilterOptions, IdentityDataOptions
from identities.recognition_dataset import RECORD, Entry, RecognitionWriter
from identities.reports import (
    SCORES_PLOT,
    describe_thresholds,
    plot_dataset,
    write_thresholds_and_plot,
)
from identities.rules import Preset
from networks.options import Truncation
from networks.sampling import Sampler
from networks.snapshot import Snapshot, load_generator
from torch_utils.checkpoints import state_sha256
from torch_utils.devices import resolve_repeatable
from torch_utils.distributed import init_distributed, is_launched, local_rank

ATTEMPTS_PER_SAMPLE = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationJob(Job):
    """Thresholds of a recogniser, to be written with their plot.

    Attributes:
        path: file of the thresholds.
        thresholds: calibrated ones.
    """

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


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentityDataJob(FolderJob):
    """A data set of new identities, to be written or continued.

    Attributes:
        options: as checked.
        device: where the networks compute.
        writer: of the data set.
        loaded: the filter.
        auditor: second recogniser, or None.
    """

    options: IdentityDataOptions
    device: str
    writer: RecognitionWriter
    loaded: LoadedFilter
    auditor: Auditor | None

    def run(self, progress: Progress) -> str | None:
        """Write what is missing; a finished data set is told of again."""
        if self.output.is_finished:
            return self._tell(files.read_json(self.output.path / RECORD))
        return self.work(progress)

    def work(self, progress: Progress) -> str | None:
        """Write the data set, in several processes where there are."""
        with init_distributed(torch.device(self.device)) as world:
            if world.is_first:
                self.loaded.save_calibration()
            total = self.options.amount.identities * self.options.amount.samples
            done = progress(0, total) if world.is_first else lambda _: None
            summary = self.writer.write(self.output, world, done, self._finish)
        return None if summary is None else self._tell(summary)

    def _finish(self, folder: Path, entries: list[Entry]) -> dict[str, Any]:
        """Write exports, thresholds and plot; return what the summary says of rules and audit."""
        loaded, rules = self.loaded, self.loaded.scorer.rules
        export_manifest(folder, entries, self.options.export)
        if loaded.thresholds is not None:
            write_thresholds(folder / THRESHOLDS_FILE, loaded.thresholds)
        if entries:
            save_image(folder / SCORES_PLOT, plot_dataset(entries, rules, loaded.thresholds))
        audit = None if self.auditor is None else self.auditor.report(folder, rgb_names(entries))
        return {"rules": configs.to_dict(rules), "audit": audit}

    def _tell(self, summary: dict[str, Any]) -> str:
        found = summary["identities"]
        text = (
            f"{self.output.path}: {summary['accepted']} samples of {found['complete']} complete "
            f"identities; {len(found['incomplete'])} have fewer than "
            f"{self.options.amount.samples}, {len(found['failed_to_enrol'])} none; "
            f"{summary['rejected']['total']} candidates rejected"
        )
        if self.options.strict and found["complete"] < found["requested"]:
            raise JobError(f"--strict: {text}")
        return text


def prepare_identity_data(options: IdentityDataOptions) -> Job:
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
    loaded = load_filter(wanted)
    sampler, about = _make_sampler(options, images, snapshot, loaded)
    recogniser = loaded.scorer.embedder.hash
    auditor = load_auditor(options.audit, wanted.training_ids, device=device, other_than=recogniser)
    identity = {
        **configs.to_dict(options.amount),
        "truncation": options.truncation,
        "micro_batch": images.micro_batch,
        "modalities": list(images.modalities),
        "export": options.export.value,
        "network_sha256": state_sha256(generator.state_dict()),
        "people": about,
        "filter": loaded.describe(),
        "audit": None if auditor is None else auditor.embedder.hash,
    }
    return IdentityDataJob(
        output=find_output(options.outdir, RECORD, identity, fresh=options.fresh),
        options=options,
        device=device,
        writer=RecognitionWriter(sampler, loaded.scorer, options.amount),
        loaded=loaded,
        auditor=auditor,
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
    variation = Variation.SHARED if options.shared_variation else Variation.OWN
    layers: tuple[int, ...] = ()
    if options.mix_layers is not None:
        variation = Variation.MIXED
        try:
            layers = parse_numbers(options.mix_layers)
        except ValueError as error:
            raise ValueError(f"--mix-layers: {error}") from error
    sampler = CandidateSampler(
        images,
        source,
        seed=options.seed,
        scale=scale,
        variation=variation,
        shared_layers=layers,
        is_null=options.null_control,
    )
    if options.null_control and source.tries is not None:
        raise ValueError("--null-control needs --identity-source=random or interpolate")
    about = {"source": name, "seed": options.seed, "scale": scale, "variation": variation.value}
    null = {"null_control": True} if options.null_control else {}
    return sampler, {**about, "mix_layers": options.mix_layers, **null}


def _make_source(options: IdentityDataOptions, loaded: LoadedFilter) -> tuple[IdentitySource, str]:
    """Return the source, and its name or its file's hash."""
    name, width = options.identity_source, loaded.scorer.embedder.width
    if name == "random":
        return RandomSource(width), name
    if name == "interpolate":
        return MixupSource(loaded.features), name
    source = FileSource(Path(name), width)
    if options.amount.identities > len(source):
        raise ValueError(f"--ids must be at most {len(source)}, the vectors in {name}")
    return source, files.sha256_file(Path(name))
