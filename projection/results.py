"""What becomes of projected images: errors, missing modalities, labels, and their files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy import ndimage
from torch import Tensor

from data import sheets
from data.class_list import ClassList, class_list_as_json
from data.info import INFO_FILE
from data.modalities import MODALITIES
from data.numbers import save_array
from data.pairs import MASK_FOLDER
from data.pixels import LUMA, decode_image, read_mask
from data.sample_index import SampleIndex
from dnnlib import files
from networks.sampling import Sampler

RECONSTRUCTED = "reconstructed"
PAIRS = "pairs"
UNCERTAINTY_FOLDER = "uncertainty"
SHEET_FILE = "contact_sheet.png"
# As make_training_data.py writes them, for preprocess_annotations.py --drawn.
ANNOTATED, LATENT_FILE, ANNOTATION_RECORD = (
    "images_to_annotate", "latent_stylegan.npy", "training_data.json",
)  # fmt: skip
_SHOWN = 24
_DETAIL_SIGMA = 1 / 16  # of the width: what is coarser differs between the modalities

Pictures = Mapping[str, np.ndarray]  # modality -> [C, R, R] uint8


class Labelling(Protocol):
    """Classes of an image's pixels."""

    labels: Tensor  # [R, R] uint8
    score: float  # uncertainty of the whole

    def uncertainty(self, classes: int) -> np.ndarray:
        """Return a map, [1, R, R] uint16, of which 65535 is ln(classes)."""


class Labeller(Protocol):
    """Labels what a generator shows."""

    classes: ClassList

    def identity(self) -> dict[str, Any]:
        """Return what decides the labels, as plain JSON values."""

    def __call__(self, maps: Sequence[Tensor]) -> Labelling:
        """Label one image by its feature maps."""


def pixel_errors(true: Pictures, found: Pictures) -> dict[str, dict[str, float]]:
    """Return mean absolute and root mean square error of each modality of `true`, of 255."""
    differences = {name: found[name].astype(np.float64) - image for name, image in true.items()}
    return {
        "mae": {name: round(float(np.abs(d).mean()), 6) for name, d in differences.items()},
        "rmse": {name: round(float(np.sqrt((d**2).mean())), 6) for name, d in differences.items()},
    }


def add_detail(image: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return an image with the detail that the reconstruction of another modality lacks.

    Args:
        image: [C, R, R] uint8, of the modality that follows.
        true, found: [C', R, R] uint8, photograph and reconstruction of the modality that is known.
    Returns: [C, R, R] uint8.
    """
    residual = _grey(true) - _grey(found)
    detail = residual - ndimage.gaussian_filter(residual, _DETAIL_SIGMA * len(residual))
    return np.rint(image + detail).clip(0, 255).astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    """Return [R, R] float64: luma of colour, grey as it is."""
    return np.tensordot(np.array(LUMA if len(image) == len(LUMA) else (1.0,)), image, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultWriter:
    """Writes what follows from latents.

    Attributes:
        folder: of all files.
        samples: the images.
        fitted: modalities that the projection saw.
        labeller: labels the images; None writes no masks.
        has_residual: the modality that follows gets detail, see `add_detail`.
        annotates: also write what annotations need.
        origin: of the generator, for the record of images to annotate.
    """

    folder: Path
    samples: SampleIndex
    fitted: Sequence[str]
    labeller: Labeller | None = None
    has_residual: bool = False
    annotates: bool = False
    origin: Mapping[str, Any]

    def write(self, index: int, found: Pictures, labelling: Labelling | None) -> dict[str, Any]:
        """Write the images of one sample; return its errors.

        Args:
            index: of the sample.
            found: what the generator shows, in all its modalities.
            labelling: of that.
        """
        for name, pixels in found.items():
            sheets.save_image(self.path(RECONSTRUCTED, name, index), pixels)
        true = {m: self.samples.image(m, index) for m in self.samples.modalities if m in found}
        errors = pixel_errors(true, found)
        pair = self._complete(true, found)
        follows = {name: image for name, image in pair.items() if name not in self.fitted}
        if self.has_residual:
            with_detail = pixel_errors({m: true[m] for m in follows if m in true}, follows)
            errors |= {f"{key}_residual": values for key, values in with_detail.items()}
        if follows or labelling is not None:
            for name, pixels in pair.items():
                sheets.save_image(self.path(PAIRS, name, index), pixels)
        if labelling is not None and self.labeller is not None:
            uncertainty = labelling.uncertainty(len(self.labeller.classes))
            sheets.save_image(
                self.path(PAIRS, MASK_FOLDER, index), labelling.labels.cpu().numpy()[None]
            )
            sheets.save_image(self.path(PAIRS, UNCERTAINTY_FOLDER, index), uncertainty)
        for modality in MODALITIES if self.annotates else ():
            if modality.name in pair:
                path = self.folder / ANNOTATED / f"image_{index}{modality.suffix}.jpg"
                sheets.save_image(path, pair[modality.name])
        return errors

    def finish(self, ws: np.ndarray) -> None:
        """Write what all samples have in common, and a sheet of some of them.

        Args:
            ws: [N, L, w_dim] float32.
        """
        if self.labeller is not None:
            classes = class_list_as_json(self.labeller.classes)
            files.write_json(self.folder / PAIRS / INFO_FILE, {"classes": classes})
        if self.annotates:
            save_array(self.folder / LATENT_FILE, ws)
            record = {"identity": dict(self.origin), "finished": True}
            files.write_json(self.folder / ANNOTATION_RECORD, record)
        cells = [
            (self.samples.stems[index], sheets.strip(self._pictures(index)))
            for index in sheets.spread_indices(len(self.samples), _SHOWN)
        ]
        sheets.save_image(self.folder / SHEET_FILE, sheets.contact_sheet(cells))

    def path(self, folder: str, kind: str, index: int) -> Path:
        """Return the file of an image: of a modality, or of another folder's name."""
        kept = {m.name: m.folders[0] for m in MODALITIES}.get(kind, kind)
        return self.folder / folder / kept / f"{self.samples.stems[index]}.png"

    def _complete(self, true: Pictures, found: Pictures) -> dict[str, np.ndarray]:
        """Return the fitted images as they are, and those that follow as they were found."""
        pair = {name: true[name] if name in self.fitted else found[name] for name in found}
        if self.has_residual:
            (known,) = self.fitted
            for name in pair.keys() - {known}:
                pair[name] = add_detail(found[name], true[known], found[known])
        return pair

    def _pictures(self, index: int) -> list[np.ndarray]:
        """Return original, reconstruction and difference a modality, then what follows."""
        pictures: list[np.ndarray] = []
        channels = {m.name: m.channels for m in MODALITIES}
        kinds = [name for name in channels if self.path(RECONSTRUCTED, name, index).is_file()]
        for name in kinds:
            found = decode_image(self.path(RECONSTRUCTED, name, index), channels[name])
            if name in self.samples.modalities:
                true = self.samples.image(name, index)
                pictures += [true, found, sheets.difference(true, found)]
            else:
                pictures.append(found)
        for name in kinds if self.has_residual else ():
            if name not in self.fitted:
                pictures.append(decode_image(self.path(PAIRS, name, index), channels[name]))
        if self.labeller is not None:
            with self.path(PAIRS, MASK_FOLDER, index).open("rb") as file:
                mask = read_mask(file, file.name)
            palette = self.labeller.classes.palette()
            pictures.append(
                sheets.overlay(self.samples.image(self.fitted[0], index), mask, palette)
            )
        return pictures


def show(
    sampler: Sampler, ws: Tensor, labeller: Labeller | None
) -> list[tuple[dict[str, np.ndarray], Labelling | None]]:
    """Return what a generator shows of ws [N, L, w_dim], and the labels of that."""
    if labeller is not None:
        return [(sample.images, labeller(sample.maps)) for sample in sampler.features(ws)]
    images = {name: rows.numpy() for name, rows in sampler.pixels(ws).items()}
    return [({name: rows[i] for name, rows in images.items()}, None) for i in range(len(ws))]
