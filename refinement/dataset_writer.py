"""Writes refined data sets: new images under the old names, everything else as it was.

Images are refined in micro-batches by their index in the source. A file that is there under its
final name is whole, so that a restart only writes what is missing.
"""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from data.dataset import PairDataset
from data.dataset_card import CARD_FILE, write_card
from data.info import FACE_CHECK_KEY, INFO_FILE, read_classes
from data.modalities import MODALITIES
from data.sheets import before_after, encode_png, save_image, spread_indices
from data.storage import Directory
from dnnlib import files
from dnnlib.runs import OutputFolder
from refinement.images import MAX_CLASSES, Masks, class_number
from refinement.model_files import MICRO_BATCH, TrainedRefiner

RECORD = INFO_FILE
SHEET_FILE = "contact_sheet_refined.png"
# What is told of the images themselves: sums of files, pictures, features.
_STALE = ("contact_sheet", "identity_features", "manifest.", INFO_FILE, CARD_FILE)
_SHOWN = 12
_KEPT_KEYS = ("classes", FACE_CHECK_KEY, "images", "people")
_IMAGE_FOLDERS = frozenset(name for modality in MODALITIES for name in modality.folders)


class RefinedDataset:
    """A data set and what becomes of it.

    Pairs in subfolders, such as an example data set's heldout and test, are refined as well.

    Args:
        source: folder or zip archive of pairs.
        refiner: for its images; modalities that it does not know stay as they are.
        keep: names or numbers of the classes whose pixels stay as they are, by the masks.
    Raises: FileNotFoundError; ValueError where the pairs cannot be read, or a class is unknown.
    """

    def __init__(self, source: Path, refiner: TrainedRefiner, keep: Sequence[str] = ()) -> None:
        self._refiner = refiner
        self._parts = {folder: PairDataset.open(source / folder) for folder in find_parts(source)}
        samples = self._parts[""].samples
        self._base = samples.base
        self._keep: Tensor | None = None
        if keep:
            names = read_classes(self._base).names
            self._keep = torch.zeros(MAX_CLASSES, dtype=torch.bool)
            self._keep[[class_number(name, names, "--keep") for name in keep]] = True
        self._masks = {folder: Masks(pairs) for folder, pairs in self._parts.items() if keep}
        folders = samples.image_folders
        self._image_folders = _IMAGE_FOLDERS | {folders[m.name].name for m in MODALITIES}

    def __len__(self) -> int:
        return sum(len(pairs) for pairs in self._parts.values())

    def verify(self) -> None:
        """Look at all files. Raises: ValueError naming a damaged image or mask."""
        for part in (*self._parts.values(), *self._masks.values()):
            part.verify()

    def identity(self) -> dict[str, Any]:
        """Return what decides the images, as plain JSON values."""
        return {
            "refiner_sha256": self._refiner.sha256,
            "modalities": [modality.name for modality in self._refiner.modalities],
            "micro_batch": MICRO_BATCH,
            "source": {folder: pairs.fingerprint() for folder, pairs in self._parts.items()},
            "keep": [] if self._keep is None else self._keep.nonzero()[:, 0].tolist(),
            "masks": {folder: masks.fingerprint() for folder, masks in self._masks.items()},
        }

    def write(self, output: OutputFolder, progress: Callable[[int], None]) -> None:
        """Write everything that is not there yet.

        Args:
            output: folder that is not finished.
            progress: called with the number of further pairs; those that were there count.
        Raises: ValueError where another process is at work in it.
        """
        with output.at_work():
            for folder, pairs in self._parts.items():
                pairs.cache()
                for start in range(0, len(pairs), MICRO_BATCH):
                    indices = range(start, min(start + MICRO_BATCH, len(pairs)))
                    self._write_batch(output.path / folder, folder, indices)
                    progress(len(indices))
            self._copy_others(output.path)
            save_image(output.path / SHEET_FILE, self._sheet())
            self._write_card(output)
            output.finish(self._info())

    def refine(self, folder: str, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return refined samples, up to MICRO_BATCH: modality -> [C, R, R] uint8.

        Args:
            folder: "" or a subfolder, see `find_parts`.
            indices: of the pairs in it.
        """
        items = [self._parts[folder][index] for index in indices]
        known = [modality.name for modality in self._refiner.modalities]
        joint = torch.stack([torch.cat([item[name] for name in known]) for item in items])
        refined = self._refiner.refine(joint)
        if self._keep is not None:
            is_kept = self._keep[self._masks[folder].batch(indices).long()]
            refined = torch.where(is_kept[:, None], joint, refined)
        return [
            {m.name: item[m.name].numpy() for m in MODALITIES} | sample
            for item, sample in zip(items, self._refiner.split(refined), strict=True)
        ]

    def _write_batch(self, outdir: Path, folder: str, indices: range) -> None:
        stems = self._parts[folder].stems
        names = {
            (index, modality.name): outdir / modality.folders[0] / f"{stems[index]}.png"
            for index in indices
            for modality in MODALITIES
        }
        if all(path.is_file() for path in names.values()):
            return
        for index, sample in zip(indices, self.refine(folder, indices), strict=True):
            for name, pixels in sample.items():
                with files.atomic_write(names[index, name]) as file:
                    file.write(encode_png(pixels))

    def _copy_others(self, outdir: Path) -> None:
        """Copy masks, attributes and the like: what still holds of refined images."""
        for name in self._base.names():
            path = PurePosixPath(name)
            parts = path.parts[1:] if path.parts[0] in self._parts else path.parts
            is_stale = parts[0] in self._image_folders or path.name.startswith(_STALE)
            if not is_stale and not (outdir / name).is_file():
                with self._base.open(name) as source, files.atomic_write(outdir / name) as file:
                    file.write(source.read())

    def _sheet(self) -> Any:
        pairs = self._parts[""]
        indices = spread_indices(len(pairs), _SHOWN)
        known = [modality.name for modality in self._refiner.modalities]
        before = [{name: pairs[index][name].numpy() for name in known} for index in indices]
        after = [{name: sample[name] for name in known} for sample in self.refine("", indices)]
        return before_after(before, after)

    def _write_card(self, output: OutputFolder) -> None:
        identity = output.identity
        sections = {
            "Source": {
                "data_set": self._base.name,
                "has_its_own_card": self._base.exists(CARD_FILE),
                "refiner_sha256": identity["refiner_sha256"],
            },
            "Samples": {
                "pairs": {folder or "all others": len(p) for folder, p in self._parts.items()},
                "refined_modalities": identity["modalities"],
                "classes_left_as_they_were": identity["keep"],
            },
        }
        write_card(output.path, "Refined images", sections, papers=("refiner",))

    def _info(self) -> dict[str, Any]:
        content = self._base.read_json(INFO_FILE) if self._base.exists(INFO_FILE) else {}
        content = content if isinstance(content, dict) else {}
        kept = {key: content[key] for key in _KEPT_KEYS if key in content}
        return {**kept, "pairs": len(self), "source": {"name": self._base.name, "info": content}}


def find_parts(source: Path) -> list[str]:
    """Return the folders of a data set that hold pairs: "" for itself, then subfolders by name."""
    if not source.is_dir():
        return [""]
    storage = Directory(source)
    first = [modality.folders[0] for modality in MODALITIES]
    below = [name for name in storage.folders() if name not in _IMAGE_FOLDERS]
    return ["", *(name for name in below if set(first) <= set(storage.enter(name).folders()))]
