"""The one path from uint8 images to embeddings: training images, files and generated samples."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from biometrics.aligning import Aligner, AlignKind, build_aligner
from biometrics.backbones import load_backbone
from data.pixels import to_float
from dnnlib.files import sha256_file

MICRO_BATCH = 32  # images computed together, always: rounding depends on it

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to an image before the backbone.

    Attributes:
        size: width and height that images are resized to: bilinear, antialiased.
        channels: 3 repeats grey, 1 takes the luma of colour.
        flip: add the embedding of the mirrored image, as LFW's protocol does.
        align: "mtcnn" first finds the face and moves it to ArcFace's template, "none" takes
            images as they are.
    """

    size: int
    channels: int = 3
    flip: bool = False
    align: AlignKind = AlignKind.NONE


class Embedder:
    """A backbone with its preprocessing.

    Args:
        backbone: [N, C, S, S] float32 in -1..1 -> [N, E].
        preprocessing: of the images.
        hash: SHA-256 of the weights' file; says whose embeddings these are.
        width: E.
        device: where the backbone computes.
        micro_batch: images computed together.
        aligner: moves the face of an image to its place; None for aligned images.
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
    ) -> None:
        self.backbone = backbone.to(device).eval()
        self.preprocessing, self.hash, self.width = preprocessing, hash, width
        self.device, self.micro_batch, self.aligner = device, micro_batch, aligner

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings of unit length; how many images come at once does not change them.

        An image whose face is not found stays as it is: whether there is a face is the business of
        biometrics.detection.FaceCheck.

        Args:
            images: [N, C, H, W] uint8, C 1 or 3 (or what the backbone takes).
        Returns: [N, E] float32 on the CPU.
        Raises: ValueError for another shape or dtype, or embeddings that are zero or not finite.
        """
        return self._embed(images, is_aligned=self.aligner is None)

    def embed_aligned(self, images: Tensor) -> Tensor:
        """Return embeddings of images whose faces are in their place already; see `embed`."""
        return self._embed(images, is_aligned=True)

    @torch.no_grad()
    def _embed(self, images: Tensor, *, is_aligned: bool) -> Tensor:
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise ValueError(
                f"images must be [N, C, H, W] uint8, got {list(images.shape)} {images.dtype}"
            )
        batches = images.split(self.micro_batch)
        parts = [self._embed_part(part if is_aligned else self._align(part)) for part in batches]
        return torch.cat(parts) if parts else torch.empty([0, self.width])

    def align(self, image: Tensor) -> Tensor | str:
        """Return an image [C, H, W] uint8 with its face in its place, or why not."""
        if self.aligner is None:
            return image
        moved = self.aligner(image.permute(1, 2, 0).cpu().numpy())
        return moved if isinstance(moved, str) else torch.from_numpy(moved).permute(2, 0, 1)

    def _align(self, images: Tensor) -> Tensor:
        size = [self.preprocessing.size] * 2
        moved = []
        for image in images:
            answer = self.align(image)
            moved.append(resized_uint8(image, size) if isinstance(answer, str) else answer)
        return torch.stack(moved)

    def _embed_part(self, images: Tensor) -> Tensor:
        count = len(images)
        padding = images.new_zeros([self.micro_batch - count, *images.shape[1:]])
        x = preprocess(torch.cat([images, padding]).to(self.device), self.preprocessing)
        vectors = self.backbone(x)
        if self.preprocessing.flip:
            vectors = vectors + self.backbone(x.flip(3))
        vectors = vectors[:count].float()
        lengths = vectors.norm(dim=1, keepdim=True)
        if not bool((torch.isfinite(lengths) & (lengths > 0)).all()):
            raise ValueError("the recogniser gives embeddings that are zero or not finite")
        return (vectors / lengths).cpu()


def preprocess(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return what the backbone sees.

    Args:
        images: [N, C, H, W] uint8.
    Returns: [N, channels, size, size] float32 in -1..1.
    Raises: ValueError where C cannot become `channels`.
    """
    x = _with_channels(to_float(images), preprocessing.channels)
    size = [preprocessing.size, preprocessing.size]
    if list(x.shape[2:]) == size:
        return x
    return functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def load_embedder(
    path: Path,
    *,
    device: str = "cpu",
    flip: bool = False,
    align: AlignKind = AlignKind.NONE,
) -> Embedder:
    """Read a backbone's .pth file.

    Raises: FileNotFoundError; ValueError, naming the file, where it is no backbone, or where the
        detector of `align` is not installed.
    """
    backbone, config = load_backbone(path)
    return Embedder(
        backbone,
        Preprocessing(
            size=config.size, channels=config.in_channels, flip=flip, align=AlignKind(align)
        ),
        hash=sha256_file(path),
        width=config.embedding,
        device=torch.device(device),
        aligner=build_aligner(AlignKind(align), config.size, device),
    )


def resized_uint8(image: Tensor, size: list[int]) -> Tensor:
    """Return an image [C, H, W] uint8 at another size: bilinear, antialiased, rounded."""
    resized = functional.interpolate(
        image[None].float(), size, mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0].round().clamp(0, 255).byte()


def _with_channels(x: Tensor, channels: int) -> Tensor:
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 1 and channels == 3:
        return x.expand(-1, 3, -1, -1)
    if x.shape[1] == 3 and channels == 1:
        return (x * x.new_tensor(_LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    raise ValueError(f"the recogniser takes {channels} channels, images have {x.shape[1]}")
