"""The one path from uint8 images to embeddings: training images, files and generated samples."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from biometrics.alignment import Aligner, build_aligner
from biometrics.comparisons import Side
from biometrics.detection import FaceMethod
from biometrics.recogniser_settings import ChannelOrder, InputFormat
from biometrics.recognisers import Recogniser, load_recogniser
from data.pixels import LUMA, to_float
from data.sample_index import SampleIndex
from metrics import NotMeasuredError
from metrics.nearest import unit_rows
from torch_utils.devices import upload

MICRO_BATCH = 32  # images computed together, always: rounding depends on it

_SAME_COSINE = 0.99  # of embeddings by the same weights in another form
_logger = logging.getLogger(__name__)


class NoEmbeddingError(ValueError):
    """A recogniser gives embeddings without direction."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing(InputFormat):
    """What happens to an image before the backbone.

    Attributes:
        flip: add the embedding of the mirrored image, as LFW's protocol does.
        align: whether the face is first found and moved to ArcFace's template.
    """

    flip: bool = False
    align: FaceMethod = FaceMethod.NONE


class Embedder:
    """A backbone with its preprocessing.

    Args:
        backbone: [N, C, S, S] float32 as of `preprocessing`, by default in -1..1 -> [N, E].
        preprocessing: of the images.
        hash: of the weights and of what images they get; says whose embeddings these are.
        width: E.
        device: where the backbone computes.
        micro_batch: images computed together.
        aligner: moves the face of an image to its place; None for aligned images.
        centre: [E], subtracted from embeddings of unit length, which are then made so again; for
            recognisers whose embeddings all lie on one side.
        file_hash: SHA-256 of the weights' file, `hash` by default; tells whether two recognisers
            are independent.
    """

    def __init__(
        self,
        backbone: nn.Module,
        preprocessing: Preprocessing,
        *,
        hash: str,  # noqa: A002 - its name in every file that records it
        width: int,
        device: torch.device,
        micro_batch: int = MICRO_BATCH,
        aligner: Aligner | None = None,
        centre: Tensor | None = None,
        file_hash: str | None = None,
    ) -> None:
        self.backbone = backbone.to(device).eval()
        self.preprocessing, self.hash, self.width = preprocessing, hash, width
        self.file_hash = file_hash or hash
        self.device, self.micro_batch, self.aligner = device, micro_batch, aligner
        self.centre = None if centre is None else centre.to(device)

    def with_preprocessing(self, preprocessing: Preprocessing) -> "Embedder":
        """Return an embedder of aligned images with other preprocessing, without a centre."""
        return Embedder(
            self.backbone,
            preprocessing,
            hash=self.hash,
            width=self.width,
            device=self.device,
            micro_batch=self.micro_batch,
        )

    def embed(self, images: Tensor | Iterable[Tensor]) -> Tensor:
        """Return embeddings of unit length; which images come together does not change them.

        An image whose face is not found stays as it is: whether there is a face is the business of
        biometrics.detection.FaceCheck.

        Args:
            images: [N, C, H, W] uint8, C 1 or 3 (or what the backbone takes); or an iterable of
                [C, H, W] of any sizes, of which `micro_batch` are held at once.
        Returns: [N, E] float32 on the CPU.
        Raises: ValueError for another shape or dtype; NoEmbeddingError where embeddings are zero or
            not finite.
        """
        return self.embed_aligned(images if self.aligner is None else map(self._aligned, images))

    @torch.no_grad()
    def embed_aligned(self, images: Tensor | Iterable[Tensor]) -> Tensor:
        """Return embeddings of images whose faces are in their place already; see `embed`."""
        remaining = iter(images)
        batches = iter(lambda: list(islice(remaining, self.micro_batch)), [])
        return torch.cat([torch.empty([0, self.width]), *map(self._embed_batch, batches)])

    def embed_float(self, images: Tensor) -> Tensor:
        """Return embeddings of images that are still being trained: gradients reach the images.

        Args:
            images: [N, C, H, W] float32 in -1..1, faces in their place; values outside count as the
                nearest inside.
        Returns: [N, E] float32 of unit length, on the device; zero where there is no direction.
        """
        x = to_input(images.clamp(-1, 1), self.preprocessing)
        vectors = functional.normalize(self._vectors(x))
        return vectors if self.centre is None else functional.normalize(vectors - self.centre)

    def align(self, image: Tensor) -> Tensor | str:
        """Return an image [C, H, W] uint8 with its face in its place, or why not."""
        if self.aligner is None:
            return image
        moved = self.aligner(image.permute(1, 2, 0).cpu().numpy())
        return moved if isinstance(moved, str) else torch.from_numpy(moved).permute(2, 0, 1)

    def _aligned(self, image: Tensor) -> Tensor:
        """Return an image [C, S, S] uint8 with its face in its place, else as it is."""
        answer = self.align(image)
        if isinstance(answer, Tensor):
            return answer
        size = [self.preprocessing.size] * 2
        resized = functional.interpolate(
            image[None].float(), size, mode="bilinear", antialias=True, align_corners=False
        )
        return resized[0].round().clamp(0, 255).byte()

    def _embed_batch(self, images: list[Tensor]) -> Tensor:
        parts = [
            preprocess(upload(torch.stack(list(group)), self.device), self.preprocessing)
            for _, group in groupby(images, key=_checked_shape)
        ]
        size = self.preprocessing.size
        blank = parts[0].new_full(
            [self.micro_batch - len(images), self.preprocessing.channels, size, size], -1
        )
        x = torch.cat([*parts, blank])
        return _unit_length(self._vectors(x)[: len(images)], self.centre).cpu()

    def _vectors(self, x: Tensor) -> Tensor:
        vectors = self.backbone(x)
        if self.preprocessing.flip:
            vectors = vectors + self.backbone(x.flip(3))
        return vectors.float()


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Embeddings of one modality of a data set.

    Attributes:
        samples: N of them.
        modality: "rgb" or "nir".
        vectors: [N, E] float32 of unit length; NaN where an image could not be enrolled.
        failures: index of each of those -> reason.
    """

    samples: SampleIndex
    modality: str
    vectors: np.ndarray
    failures: Mapping[int, str]

    @property
    def is_enrolled(self) -> np.ndarray:
        """Which rows have an embedding: [N] bool."""
        return np.isfinite(self.vectors).all(axis=1)

    def side(self) -> Side:
        """Return what verification compares."""
        return Side(
            vectors=self.vectors, identities=self.samples.identities, captures=self.samples.stems
        )

    def enrolled(self) -> "Embeddings":
        """Return only the images that have an embedding, with a warning of the others."""
        if self.failures:
            first, reason = next(iter(self.failures.items()))
            _logger.warning(
                "%s: %d of %d %s images are left out, %s first: %s",
                *(self.samples.name, len(self.failures), len(self.samples), self.modality),
                *(self.samples.stems[first], reason),
            )
        kept = np.flatnonzero(self.is_enrolled)
        samples = self.samples.select(kept.tolist())
        return replace(self, samples=samples, vectors=self.vectors[kept], failures={})


def embed_samples(
    samples: SampleIndex,
    modality: str,
    embed: Callable[[Tensor | Sequence[Tensor]], Tensor],
    width: int,
    *,
    align: Callable[[Tensor], Tensor | str] = lambda image: image,
    batch: int = 128,
    progress: Callable[[int], None] = lambda _: None,
    on_failure: Callable[[Mapping[int, str]], None] = lambda _: None,
) -> Embeddings:
    """Return the embeddings of a data set; images without one are failures with a reason.

    Args:
        samples: the data set.
        modality: "rgb" or "nir".
        embed: `Embedder.embed`, or another function of [n, C, H, W] uint8 (a list, where sizes
            differ) to [n, E], rows of any length above zero.
        width: E.
        align: `Embedder.align` makes an image without a face a failure; then `embed` is
            `Embedder.embed_aligned`.
        batch: images held at once.
        progress: called with further samples done.
        on_failure: called at each image that is damaged or has no face with all of them so far; an
            error that it raises ends the work.
    Raises: NotMeasuredError where no image could be read; ValueError for rows without direction.
    """
    failures: dict[int, str] = {}

    def load(index: int) -> Tensor | None:
        try:
            answer = align(torch.from_numpy(samples.image(modality, index)))
        except ValueError as error:
            answer = str(error)
        if isinstance(answer, Tensor):
            return answer
        failures[index] = answer
        on_failure(failures)
        return None

    vectors = np.full((len(samples), width), np.nan, np.float32)
    for start in range(0, len(samples), batch):
        indices = range(start, min(start + batch, len(samples)))
        loaded = {index: load(index) for index in indices}
        images = {index: image for index, image in loaded.items() if image is not None}
        if images:
            given = [*images.values()]
            is_alike = len({image.shape for image in given}) == 1
            rows = embed(torch.stack(given) if is_alike else given)
            vectors[[*images]] = unit_rows(np.asarray(rows), "embeddings")
        progress(len(indices))
    if len(failures) == len(samples):
        first = next(iter(failures.values()), "")
        raise NotMeasuredError(f"none of {len(samples)} images could be read: {first}")
    return Embeddings(samples=samples, modality=modality, vectors=vectors, failures=failures)


def preprocess(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return what the backbone sees: [N, channels, size, size] float32, by default in -1..1.

    Args:
        images: [N, C, H, W] uint8.
        preprocessing: of them.
    Raises: ValueError where C cannot become `channels`.
    """
    return to_input(to_float(images), preprocessing)


def to_input(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return what the backbone sees of images [N, C, H, W] float32 in -1..1; see `preprocess`."""
    x = _with_channels(images, preprocessing.channels)
    size = [preprocessing.size, preprocessing.size]
    if list(x.shape[2:]) != size:
        x = functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    if preprocessing.order is ChannelOrder.BGR:
        x = x.flip(1)
    mean, std = preprocessing.mean, preprocessing.std
    if mean == std == (127.5,):
        return x
    mean, std = (x.new_tensor(numbers)[:, None, None] for numbers in (mean, std))
    return ((x + 1) * 127.5 - mean) / std


def are_independent(first: Embedder, second: Embedder) -> bool:
    """Return False for two recognisers of one file, or of the same weights in two forms.

    The latter give the same embeddings, which shows on any images: each with its own preprocessing,
    or, where one form says otherwise what images it takes, both with one's.
    """
    if first.file_hash == second.file_hash:
        return False
    takes, other = first.preprocessing, second.preprocessing
    if first.width != second.width or takes.channels != other.channels:
        return True
    for pair in dict.fromkeys([(takes, other), (takes, takes), (other, other)]):
        rows = [_probe(*side) for side in zip((first, second), pair, strict=True)]
        if rows[0] is None or rows[1] is None:
            continue
        if (rows[0] * rows[1]).sum(dim=1).min() >= _SAME_COSINE:
            return False
    return True


def _probe(embedder: Embedder, preprocessing: Preprocessing) -> Tensor | None:
    """Return embeddings of two fixed images, [2, E]; None where a network has none of them."""
    probe = embedder.with_preprocessing(replace(preprocessing, flip=False))
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(256, [2, preprocessing.channels, 64, 64], generator=random).byte()
    probe.micro_batch = len(noise)  # more is not worth its time, also in a dry run
    try:
        return probe.embed_aligned(noise)
    except NoEmbeddingError:
        return None
    except Exception:  # whatever a network does with images of another size than its own
        if preprocessing == embedder.preprocessing:
            raise
        return None


def load_embedder(
    path: Path,
    *,
    device: str = "cpu",
    flip: bool = False,
    align: FaceMethod = FaceMethod.NONE,
) -> Embedder:
    """Read a recogniser's file, see `load_recogniser`.

    Raises: FileNotFoundError; ValueError, naming the file, where it is no recogniser, or where the
        detector of `align` is not installed.
    """
    return build_embedder(
        load_recogniser(path, device=device), device=device, flip=flip, align=align
    )


def build_embedder(
    found: Recogniser, *, device: str, flip: bool = False, align: FaceMethod = FaceMethod.NONE
) -> Embedder:
    """Return the embedder of a recogniser on this device; raises as `load_embedder`."""
    align = FaceMethod(align)  # options have its value
    return Embedder(
        found.network,
        Preprocessing(**vars(found.takes), flip=flip, align=align),
        hash=found.hash,
        width=found.width,
        device=torch.device(device),
        aligner=build_aligner(align, found.takes.size, device),
        centre=found.centre,
        file_hash=found.file_hash,
    )


def _unit_length(vectors: Tensor, centre: Tensor | None) -> Tensor:
    """Return rows of length 1, less a centre and of length 1 again; a GPU is waited for once."""
    lengths = vectors.norm(dim=1, keepdim=True)
    vectors = vectors / lengths
    if centre is not None:
        vectors = vectors - centre
        rest = vectors.norm(dim=1, keepdim=True)
        vectors, lengths = vectors / rest, torch.cat([lengths, rest])
    if not bool((torch.isfinite(lengths) & (lengths > 0)).all()):
        raise NoEmbeddingError("the recogniser gives embeddings that are zero or not finite")
    return vectors


def _checked_shape(image: Tensor) -> torch.Size:
    if image.ndim != 3 or image.dtype != torch.uint8:
        raise ValueError(
            f"images must be [N, C, H, W] uint8, got {list(image.shape)} {image.dtype}"
        )
    return image.shape


def _with_channels(x: Tensor, channels: int) -> Tensor:
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 1 and channels == 3:
        return x.expand(-1, 3, -1, -1)
    if x.shape[1] == 3 and channels == 1:
        return (x * x.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    raise ValueError(f"the recogniser takes {channels} channels, images have {x.shape[1]}")
