"""From the options of project_pairs.py to latents, reconstructions and errors on disk.

Work is done in micro-batches; a batch's record is its last file, so that a restart, or another
process, knows what is there. The process that finds all records writes the results.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import sheets
from data.modalities import MODALITIES
from data.numbers import save_array
from data.pixels import decode_image, to_float
from data.sample_index import SampleIndex
from dnnlib import config as configs
from dnnlib import files
from dnnlib.options import Progress
from dnnlib.runs import FolderJob, find_output, lock_folder
from networks.sampling import IndexedSampler, load_conditions
from networks.snapshot import load_generator
from projection.optimisation import LatentStatistics, Projector, projection_batch
from projection.options import ProjectionConfig, ProjectionOptions
from projection.targets import fitted_modalities, load_batch, open_targets
from torch_utils.checkpoints import state_sha256
from torch_utils.devices import resolve_repeatable
from torch_utils.distributed import World, launched_world, local_rank

RECORD = "projection.json"
LATENTS_FILE = "projected_w.npz"
ERRORS_FILE = "errors.json"
SHEET_FILE = "contact_sheet.png"
RECONSTRUCTED = "reconstructed"
_BATCHES = ".batches"
_STREAM = "projection"
_SHOWN = 24

Entry = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProjectionJob(FolderJob):
    """Images to be projected, by one process or several."""

    sampler: IndexedSampler  # of the generator
    samples: SampleIndex  # the images
    fitted: Sequence[str]  # modalities that are seen
    config: ProjectionConfig
    world: World = World()  # processes of which each projects every `size`-th batch

    def work(self, progress: Progress) -> str:
        """Project this process's share, and write the results where everything is there."""
        path, world = self.output.path, self.world
        self.output.begin()
        mine = [b for n, b in enumerate(self._batches()) if n % world.size == world.rank]
        advance = progress(0, sum(map(len, mine)) * self.config.steps, "step")
        statistics = LatentStatistics.of(self.sampler)
        size = projection_batch(self.sampler)
        projector = Projector(self.sampler.generator, statistics, self.config, size)
        for batch in mine:
            if self._record(batch).is_file():
                advance(len(batch) * self.config.steps)
                continue
            images = {name: load_batch(self.samples, name, batch) for name in self.fitted}
            wanted = {name: to_float(rows) for name, rows in images.items()}
            ws = projector.project(wanted, [self.samples.stems[i] for i in batch], advance=advance)
            self._write_batch(batch, ws, statistics)
        result = self._complete()
        if result is None:
            return f"{path}: this process is done, others are not"
        shown = ", ".join(f"{name} {value:.2f}" for name, value in result["mae"].items())
        return f"{path}: {len(self.samples)} samples, mean absolute error of 255: {shown}"

    def _batches(self) -> Iterator[range]:
        size = projection_batch(self.sampler)
        for start in range(0, len(self.samples), size):
            yield range(start, min(start + size, len(self.samples)))

    def _record(self, batch: range) -> Path:
        return self.output.path / _BATCHES / f"{batch.start:08d}.json"

    def image_path(self, folder: str, modality: str, index: int) -> Path:
        """Return the file of an image that is written."""
        (kept,) = (m.folders[0] for m in MODALITIES if m.name == modality)
        return self.output.path / folder / kept / f"{self.samples.stems[index]}.png"

    def _write_batch(self, batch: range, ws: Tensor, statistics: LatentStatistics) -> None:
        entries: list[Entry] = []
        found = {name: rows.numpy() for name, rows in self.sampler.pixels(ws).items()}
        distances = statistics.coordinates(ws).square().mean(dim=(1, 2)).sqrt()
        for row, index in enumerate(batch):
            shown = {name: rows[row] for name, rows in found.items()}
            for name, pixels in shown.items():
                sheets.save_image(self.image_path(RECONSTRUCTED, name, index), pixels)
            true = {m: self.samples.image(m, index) for m in self.samples.modalities if m in shown}
            entries.append(
                {
                    "name": self.samples.stems[index],
                    "identity": self.samples.identities[index],
                    **pixel_errors(true, shown),
                    "distance": round(float(distances[row]), 6),
                }
            )
        save_array(self._record(batch).with_suffix(".npy"), ws.numpy())
        files.write_json(self._record(batch), entries, indent=None)

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
        mae = {
            name: float(np.mean([entry["mae"][name] for entry in entries]))
            for name in entries[0]["mae"]
        }
        files.write_json(folder / ERRORS_FILE, {"mae": mae, "images": entries})
        sheets.save_image(folder / SHEET_FILE, self._sheet())
        files.remove_parts(folder)
        result = {"samples": len(self.samples), "mae": mae, "threads": torch.get_num_threads()}
        self.output.finish(result)
        return result

    def _sheet(self) -> sheets.Pixels:
        """Show originals, reconstructions and differences of some samples."""
        cells = []
        for index in sheets.spread_indices(len(self.samples), _SHOWN):
            pictures: list[np.ndarray] = []
            for name in self.sampler.modalities:
                path = self.image_path(RECONSTRUCTED, name, index)
                found = decode_image(path, self.sampler.generator.config.heads[name])
                if name in self.samples.modalities:
                    true = self.samples.image(name, index)
                    pictures += [true, found, sheets.difference(true, found)]
                else:
                    pictures.append(found)
            cells.append((self.samples.stems[index], sheets.strip(pictures)))
        return sheets.contact_sheet(cells)


def pixel_errors(
    true: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Return mean absolute and root mean square error of each modality, of 255.

    Args:
        true, found: modality -> [C, R, R] uint8; those of `true` are measured.
    """
    differences = {name: found[name].astype(np.float64) - image for name, image in true.items()}
    return {
        "mae": {name: round(float(np.abs(d).mean()), 6) for name, d in differences.items()},
        "rmse": {name: round(float(np.sqrt((d**2).mean())), 6) for name, d in differences.items()},
    }


def prepare(options: ProjectionOptions) -> ProjectionJob:
    """Read the network, and look at all images.

    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    device = torch.device(resolve_repeatable(options.device, local_rank()))
    generator, snapshot = load_generator(
        options.network, device, use_raw_g=options.use_raw_g, fp32=True
    )
    fitted = fitted_modalities(options.source)
    absent = [name for name in fitted if name not in generator.config.heads]
    if absent:
        known = ", ".join(generator.config.heads)
        raise ValueError(
            f"--from={options.source}: {options.network} makes no {absent[0]} images, only {known}"
        )
    samples = open_targets(options.data, options.source, generator.config.resolution)
    if options.first is not None:
        samples = samples.select(range(min(options.first, len(samples))))
    conditions = load_conditions(options.labels, "--labels", snapshot.feature_scale)
    sampler = IndexedSampler(
        generator,
        conditions,
        name=f"{options.network}: --labels",
        stream=_STREAM,
        seed=options.config.seed,
    )
    identity = {
        "network_sha256": state_sha256(generator.state_dict()),
        "images": samples.content_hash(),
        "from": options.source,
        "labels": None if options.labels is None else files.sha256_file(options.labels),
        "micro_batch": projection_batch(sampler),
        **configs.to_dict(options.config),
    }
    return ProjectionJob(
        output=find_output(options.outdir, RECORD, identity, fresh=options.fresh),
        facts={"samples": len(samples)},
        sampler=sampler,
        samples=samples,
        fitted=fitted,
        config=options.config,
        world=launched_world(),
    )
