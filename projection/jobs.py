"""From the options of project_pairs.py to latents, reconstructions and errors on disk.

Work is done in micro-batches; a batch's record is its last file, so that a restart, or another
process, knows what is there. The process that finds all records writes the results.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import sheets
from data.modalities import RGB
from data.numbers import save_array
from data.pixels import to_float
from data.sample_index import SampleIndex
from dnnlib import config as configs
from dnnlib import files
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, find_output, lock_folder
from networks.generator import Generator
from networks.sampling import IndexedSampler, load_conditions
from networks.snapshot import load_generator
from networks.video import check_video, save_video
from projection.encoder import EncoderFolder, open_encoder
from projection.optimisation import LatentStatistics, Projector, projection_batch
from projection.options import ProjectionConfig, ProjectionOptions
from projection.results import Labeller, ResultWriter, show
from projection.targets import fitted_modalities, load_batch, open_targets
from torch_utils.checkpoints import state_sha256
from torch_utils.devices import resolve_repeatable
from torch_utils.distributed import World, launched_world, local_rank
from torch_utils.torchscript import load_feature_network

RECORD = "projection.json"
LATENTS_FILE = "projected_w.npz"
ERRORS_FILE = "errors.json"
_BATCHES = ".batches"
_STREAM = "projection"
_IN_VIDEO, _FRAMES, _FRAMES_PER_SEC = 8, 120, 20.0

Entry = dict[str, Any]
# Reads the models of a folder, which must be of this generator.
LoadLabeller = Callable[[Path, Generator], Labeller]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectionJob(FolderJob):
    """Images to be projected, by one process or several."""

    sampler: IndexedSampler  # of the generator
    samples: SampleIndex  # the images
    writer: ResultWriter  # of what follows from their latents
    fitted: Sequence[str]  # modalities that are seen
    config: ProjectionConfig
    encoder: EncoderFolder | None = None  # gives the start
    features: Callable[[Tensor], Tensor] | None = None  # compared besides pixels
    video: Path | None = None  # of the first samples
    world: World = World()  # processes of which each projects every `size`-th batch

    def work(self, progress: Progress) -> str:
        """Project this process's share, and write the results where everything is there."""
        path, world, encoder = self.output.path, self.world, None
        if self.encoder is not None:
            encoder = self.encoder.load(progress)
            self.output.identity["encoder"] = self.encoder.identity()  # with its weights, now
        self.output.begin()
        mine = [b for n, b in enumerate(self._batches()) if n % world.size == world.rank]
        advance = progress(0, sum(map(len, mine)) * self.config.steps, "step")
        statistics = LatentStatistics.of(self.sampler)
        size = projection_batch(self.sampler)
        projector = Projector(
            self.sampler.generator, statistics, self.config, size, encoder, self.features
        )
        for batch in mine:
            if self._record(batch).is_file():
                advance(len(batch) * self.config.steps)
                continue
            images = {name: load_batch(self.samples, name, batch) for name in self.fitted}
            wanted = {name: to_float(rows) for name, rows in images.items()}
            history: list[Tensor] | None = [] if self.video and not batch.start else None
            names = [self.samples.stems[i] for i in batch]
            ws = projector.project(wanted, names, advance, history)
            if history and self.video is not None:
                self._write_video(self.video, images, history)
            self._write_batch(batch, ws, statistics)
        result = self._complete()
        if result is None:
            return f"{path}: this process is done, others are not"
        shown = ", ".join(f"{name} {value:.2f}" for name, value in result["mae"].items())
        return f"{path}: {len(self.samples)} samples, mean absolute error of 255: {shown}"

    def check_video(self, path: Path) -> None:
        """Raise ValueError unless a video will be written, or was by the same command."""
        check_video(path)
        if self._record(range(0)).is_file() and not path.is_file():
            raise ValueError(
                f"--video {path}: {self.output.path} has the samples that it shows already; --fresh"
                " makes another"
            )

    def _batches(self) -> Iterator[range]:
        size = projection_batch(self.sampler)
        for start in range(0, len(self.samples), size):
            yield range(start, min(start + size, len(self.samples)))

    def _record(self, batch: range) -> Path:
        return self.output.path / _BATCHES / f"{batch.start:08d}.json"

    def _write_batch(self, batch: range, ws: Tensor, statistics: LatentStatistics) -> None:
        entries: list[Entry] = []
        distances = statistics.coordinates(ws).square().mean(dim=(1, 2)).sqrt()
        shown = show(self.sampler, ws, self.writer.labeller)
        for row, (index, (found, labelling)) in enumerate(zip(batch, shown, strict=True)):
            entry = {
                "name": self.samples.stems[index],
                "identity": self.samples.identities[index],
                **self.writer.write(index, found, labelling),
                "distance": round(float(distances[row]), 6),
            }
            if labelling is not None:
                entry["uncertainty"] = round(labelling.score, 9)
            entries.append(entry)
        save_array(self._record(batch).with_suffix(".npy"), ws.numpy())
        files.write_json(self._record(batch), entries, indent=None)

    def _write_video(
        self, path: Path, images: Mapping[str, Tensor], history: Sequence[Tensor]
    ) -> None:
        """Show originals and the generator's images of some samples, of evenly spread steps."""
        true = {f"true {m}": rows[:_IN_VIDEO].numpy() for m, rows in images.items()}
        chosen = sheets.spread_indices(len(history), _FRAMES)
        shown = (self.sampler.pixels(history[step][:_IN_VIDEO]) for step in chosen)
        frames = (
            sheets.sample_grid(
                {**true, **{m: rows.numpy() for m, rows in found.items()}}, columns=1
            )
            for found in shown
        )
        save_video(path, (frame.transpose(1, 2, 0) for frame in frames), _FRAMES_PER_SEC)

    def _complete(self) -> Entry | None:
        """Write the results if all batches are there and no other process is at it."""
        records = [self._record(batch) for batch in self._batches()]
        if not all(record.is_file() for record in records):
            return None
        try:
            lock = lock_folder(self.output.path)
        except ValueError:
            return None
        with lock:
            return self._write_results(records)

    def _write_results(self, records: Sequence[Path]) -> Entry:
        folder = self.output.path
        entries = [entry for record in records for entry in files.read_json(record)]
        ws = np.concatenate([np.load(record.with_suffix(".npy")) for record in records])
        with files.atomic_write(folder / LATENTS_FILE) as file:
            np.savez(file, w=ws, names=np.array(self.samples.stems))
        means = {
            key: {name: fmean(entry[key][name] for entry in entries) for name in values}
            for key, values in entries[0].items()
            if isinstance(values, dict)
        }
        files.write_json(folder / ERRORS_FILE, {**means, "images": entries})
        self.writer.finish(ws)
        files.remove_parts(folder)
        result = {"samples": len(self.samples), **means, "threads": torch.get_num_threads()}
        self.output.finish(result)
        return result


def prepare(options: ProjectionOptions, load_labeller: LoadLabeller) -> ProjectionJob:
    """Read the network, and look at all images.

    Args:
        options: as the user gave them.
        load_labeller: reads --interpreter.
    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    device = torch.device(resolve_repeatable(options.device, local_rank()))
    generator, snapshot = load_generator(
        options.network, device, use_raw_g=options.use_raw_g, fp32=True
    )
    fitted = fitted_modalities(options.source)
    _check_heads(options, generator, fitted)
    resolution = generator.config.resolution
    samples = open_targets(options.data, options.source, resolution, options.first)
    conditions = load_conditions(options.labels, "--labels", snapshot.feature_scale)
    # Whatever --seed says, so that an encoder stays one: it speaks of deviations from that mean.
    name = f"{options.network}: --labels"
    sampler = IndexedSampler(generator, conditions, name=name, stream=_STREAM)
    features = labeller = None
    if options.features is not None:
        features = load_feature_network(options.features, RGB.channels, resolution, device)
    world = launched_world()
    encoder = _open_encoder(options, sampler, fitted, world)
    if options.interpreter is not None:
        labeller = load_labeller(options.interpreter, generator)
    network = {
        "network": "G" if options.use_raw_g else "G_ema",
        "network_sha256": state_sha256(generator.state_dict()),
    }
    identity = {
        **network,
        "images": samples.content_hash(),
        "from": options.source,
        "labels": _file_hash(options.labels),
        "micro_batch": projection_batch(sampler),
        "features": _file_hash(options.features),
        "encoder": None if encoder is None else encoder.identity(),
        "interpreter": None if labeller is None else labeller.identity(),
        "residual": options.residual,
        "annotate": options.annotate,
        **configs.to_dict(options.config),
    }
    output = find_output(options.outdir, RECORD, identity, fresh=options.fresh)
    job = ProjectionJob(
        output=output,
        facts={"samples": len(samples)},
        sampler=sampler,
        samples=samples,
        writer=ResultWriter(
            folder=output.path,
            samples=samples,
            fitted=fitted,
            labeller=labeller,
            has_residual=options.residual,
            annotates=options.annotate,
            origin=network,
        ),
        fitted=fitted,
        config=options.config,
        encoder=encoder,
        features=features,
        video=options.video,
        world=world,
    )
    if options.video is not None:
        job.check_video(options.video)
    return job


def _check_heads(options: ProjectionOptions, generator: Generator, fitted: Sequence[str]) -> None:
    """Raise ValueError unless a generator makes the modalities that are fitted, and follow."""
    heads = generator.config.heads
    absent = [name for name in fitted if name not in heads]
    if absent:
        raise ValueError(
            f"--from={options.source}: {options.network} makes no {absent[0]} images, only"
            f" {', '.join(heads)}"
        )
    if options.residual and len(heads) == 1:
        raise ValueError(f"--residual: {options.network} makes {fitted[0]} images alone")


def _open_encoder(
    options: ProjectionOptions, sampler: IndexedSampler, fitted: Sequence[str], world: World
) -> EncoderFolder | None:
    """Return the encoder of --encoder. Raises: ValueError where several processes would train."""
    if options.encoder is None:
        return None
    encoder = open_encoder(options.encoder, sampler, fitted, options.encoder_config)
    if world.size > 1 and not encoder.output.is_finished:
        raise ValueError(
            f"--encoder {options.encoder}: is not trained yet, which one process does: run the"
            " command without torchrun first"
        )
    return encoder


def _file_hash(path: Path | None) -> str | None:
    return None if path is None else files.sha256_file(path)
