"""From options to a filtered folder, generated identities or calibrated thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from biometrics.embedding import Embedder
from biometrics.features import IdentityFeatures
from biometrics.thresholds import Thresholds, calibrate
from data.samples import open_samples
from dnnlib import files
from dnnlib.config import to_dict
from dnnlib.options import Job, JobError, Progress
from dnnlib.runs import FolderJob, find_output
from dnnlib.text import parse_numbers
from identities import folder_filter, identity_sources, recognition_dataset, reports
from identities.audit import Auditor, load_auditor
from identities.candidates import CandidateDrawer, Variation
from identities.export import export_manifest
from identities.filter_loading import (
    LoadedFilter,
    describe_thresholds,
    load_filter,
    load_people,
    save_thresholds,
)
from identities.options import (
    AuditOptions,
    FilterOptions,
    FolderFilterOptions,
    IdentityDataOptions,
)
from identities.rules import Preset
from networks.options import Truncation
from networks.sampling import Sampler
from networks.snapshot import Snapshot, load_generator
from torch_utils.checkpoints import state_sha256
from torch_utils.devices import resolve_repeatable
from torch_utils.distributed import is_launched, join_world, local_rank

CANDIDATES_PER_SAMPLE = 20


# A folder without training identities


@dataclass(frozen=True, kw_only=True, eq=False)
class FolderFilterJob(FolderJob):
    """A view of a folder to be made.

    Attributes:
        options: as checked.
        loaded: the filter.
        auditor: measures the kept images; None for nothing.
        work_filter: the folder's samples and the rules that they are held against.
    """

    options: FolderFilterOptions
    loaded: LoadedFilter
    auditor: Auditor | None
    work_filter: folder_filter.FolderFilter

    def work(self, progress: Progress) -> str:
        """Compare the images and write the view."""
        _write_calibrated(self.options.filter, self.loaded)
        with self.output.at_work():
            summary = self.work_filter.write(
                self.output,
                progress(0, self.facts["samples"]),
                is_list_only=self.options.list_only,
                finish=self._audit,
            )
        reasons = summary["rejected"]["by_first_reason"]
        why = ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "none"
        kept = f"{summary['kept']} of {summary['samples']} samples kept"
        return f"{self.output.path}: {kept}; rejected: {why}"

    def _audit(self, folder: Path, names: list[str]) -> dict[str, Any]:
        return {"audit": None if self.auditor is None else self.auditor.report(folder, names)}


def prepare_folder_filter(options: FolderFilterOptions) -> FolderFilterJob:
    """Read and check everything that a filter of a folder needs.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    device = _choose_device(options)
    folder_filter.check_apart(options.data, options.outdir)
    if not options.data.is_dir():
        raise FileNotFoundError(f"--data {options.data}: no such folder")
    samples = open_samples(options.data, is_complete=False)
    loaded = load_filter(replace(options.filter, device=device))
    auditor = _load_auditor(options.audit, options.filter, loaded, device)
    identity = {
        "files_sha256": folder_filter.fingerprint(samples),
        "list_only": options.list_only,
        "filter": loaded.describe(),
        "audit": None if auditor is None else auditor.embedder.hash,
    }
    return FolderFilterJob(
        output=find_output(options.outdir, folder_filter.RECORD, identity, fresh=options.fresh),
        facts={"samples": len(samples)},
        options=options,
        loaded=loaded,
        auditor=auditor,
        work_filter=folder_filter.FolderFilter(
            options.data, samples, loaded.scorer, is_strict=options.strict
        ),
    )


# New identities


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationJob(Job):
    """Thresholds to be calibrated and written.

    Attributes:
        options: of the filter.
        features: of the training identities.
        embedder: that made them.
    """

    options: FilterOptions
    features: IdentityFeatures
    embedder: Embedder

    def calibrated(self) -> Thresholds:
        """Return the thresholds at the false match rate of --calibrate."""
        rate = self.options.calibrate
        assert rate is not None, "the caller says so"
        return calibrate(
            self.features, fmr=rate, recogniser=self.embedder.hash, device=self.options.device
        )

    def describe(self) -> dict[str, Any]:
        """Return the thresholds."""
        found = self.calibrated()
        return {name: getattr(found, name) for name in ("fmr", *sorted(self.options.limits()))}

    def run(self, progress: Progress) -> str:
        """Calibrate and write."""
        found = self.calibrated()
        save_thresholds(self.options, found)
        return describe_thresholds(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentityDataJob(FolderJob):
    """A data set of new identities to be written.

    Attributes:
        options: as checked.
        device: of the generator.
        drawer: generates candidates.
        loaded: the filter.
        auditor: measures the result; None for nothing.
    """

    options: IdentityDataOptions
    device: str
    drawer: CandidateDrawer
    loaded: LoadedFilter
    auditor: Auditor | None

    def run(self, progress: Progress) -> str | None:
        """Write what is missing, and say what there is.

        Raises: JobError with --strict where an identity lacks samples.
        """
        if not self.output.is_finished:
            return self.work(progress)
        return self._report(files.read_json(self.output.path / self.output.record))

    def work(self, progress: Progress) -> str | None:
        """Generate and filter."""
        _write_calibrated(self.options.filter, self.loaded)
        amount = self.options.amount
        writer = recognition_dataset.RecognitionWriter(self.drawer, self.loaded.scorer, amount)
        with join_world(torch.device(self.device)) as world:
            total = amount.identities * amount.samples
            bar = progress(0, total) if world.is_first else lambda _: None
            summary = writer.write(self.output, world, bar, self._finish)
        return None if summary is None else self._report(summary)

    def _finish(self, folder: Path, entries: list[dict[str, Any]]) -> dict[str, Any]:
        export_manifest(folder, entries, self.options.export)
        return reports.write_reports(folder, entries, self.loaded, self.auditor)

    def _report(self, summary: Mapping[str, Any]) -> str:
        identities, wanted = summary["identities"], self.options.amount.samples
        text = (
            f"{self.output.path}: {summary['accepted']} samples of {identities['complete']} whole "
            f"identities; {len(identities['incomplete'])} have fewer than {wanted}, "
            f"{len(identities['failed_to_enrol'])} none; "
            f"{summary['rejected']['total']} candidates rejected"
        )
        if self.options.strict and identities["complete"] < identities["requested"]:
            raise JobError(f"--strict: {text}")
        return text


def prepare_identity_data(options: IdentityDataOptions) -> IdentityDataJob | CalibrationJob:
    """Read and check everything that new identities need, or a calibration alone.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    device = _choose_device(options)
    wanted = replace(options.filter, device=device)
    if options.gen_model is None and wanted.calibrate is not None:
        features, embedder = load_people(wanted.training_ids, wanted.rec_model, device)
        return CalibrationJob(options=wanted, features=features, embedder=embedder)
    if options.gen_model is None or options.outdir is None:
        missing = "--gen_model" if options.gen_model is None else "--outdir"
        raise ValueError(f"{missing} is missing; only --calibrate alone goes without")
    if wanted.max_attempts is None and wanted.rules is Preset.STRICT:
        wanted = replace(wanted, max_attempts=CANDIDATES_PER_SAMPLE * options.amount.samples)
    generator, snapshot = load_generator(options.gen_model, device)
    if generator.config.c_dim == 0:
        raise ValueError(
            f"--gen_model {options.gen_model}: is unconditional, it generates no identity at will;"
            " train with --cond=1"
        )
    truncation = Truncation(psi=options.truncation)
    sampler = Sampler(generator, truncation=truncation, micro_batch=options.micro_batch)
    loaded = load_filter(wanted)
    drawer, about = _make_drawer(options, sampler, snapshot, loaded)
    auditor = _load_auditor(options.audit, wanted, loaded, device)
    identity = {
        **to_dict(options.amount),
        "truncation": options.truncation,
        "micro_batch": sampler.micro_batch,
        "modalities": list(sampler.modalities),
        "export": options.export.value,
        "network_sha256": state_sha256(generator.state_dict()),
        "people": about,
        "filter": loaded.describe(),
        "audit": None if auditor is None else auditor.embedder.hash,
    }
    return IdentityDataJob(
        output=find_output(
            options.outdir, recognition_dataset.RECORD, identity, fresh=options.fresh
        ),
        options=options,
        device=device,
        drawer=drawer,
        loaded=loaded,
        auditor=auditor,
    )


def _make_drawer(
    options: IdentityDataOptions, sampler: Sampler, snapshot: Snapshot, loaded: LoadedFilter
) -> tuple[CandidateDrawer, dict[str, Any]]:
    """Return what generates candidates, and what decides them as plain JSON values."""
    width = loaded.scorer.embedder.width
    if sampler.c_dim != width:
        raise ValueError(
            f"--gen_model {options.gen_model}: takes conditions of {sampler.c_dim} numbers, but "
            f"--rec_model gives {width}"
        )
    source, name = _identity_source(options, loaded)
    scale = options.feature_scale or snapshot.new_feature_scale(loaded.features.vectors)
    variation = Variation.SHARED if options.shared_variation else Variation.OWN
    layers: tuple[int, ...] = ()
    if options.mix_layers is not None:
        variation = Variation.MIXED
        try:
            layers = parse_numbers(options.mix_layers)
        except ValueError as error:
            raise ValueError(f"--mix-layers: {error}") from error
    drawer = CandidateDrawer(
        sampler,
        source,
        seed=options.seed,
        scale=scale,
        variation=variation,
        shared_layers=layers,
    )
    about = {"source": name, "seed": options.seed, "scale": scale, "variation": variation.value}
    return drawer, {**about, "mix_layers": options.mix_layers}


def _identity_source(
    options: IdentityDataOptions, loaded: LoadedFilter
) -> tuple[identity_sources.IdentitySource, str]:
    """Return the source, and its name or its file's hash."""
    name, width = options.identity_source, loaded.scorer.embedder.width
    if name == "random":
        return identity_sources.RandomSource(width), name
    if name == "interpolate":
        return identity_sources.MixupSource(loaded.features), name
    source = identity_sources.FileSource(Path(name), width)
    if options.amount.identities > len(source):
        raise ValueError(f"--ids must be at most {len(source)}, the vectors in {name}")
    return source, files.sha256_file(Path(name))


# What both share


def _choose_device(options: FolderFilterOptions | IdentityDataOptions) -> str:
    number = local_rank() if is_launched() else options.gpu_device_number
    return resolve_repeatable(options.device, number)


def _load_auditor(
    audit: AuditOptions, wanted: FilterOptions, loaded: LoadedFilter, device: str
) -> Auditor | None:
    if audit.audit_model is None:
        return None
    return load_auditor(
        audit.audit_model,
        audit.audit_features,
        wanted.training_ids,
        device=device,
        other_than=loaded.scorer.embedder.hash,
    )


def _write_calibrated(wanted: FilterOptions, loaded: LoadedFilter) -> None:
    if wanted.calibrate is not None and loaded.thresholds is not None:
        save_thresholds(wanted, loaded.thresholds)
