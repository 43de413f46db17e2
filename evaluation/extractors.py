"""Networks that turn images into features: the published ones, and named stand-ins.

A network counts as published when its file has the published SHA-256; a number of any other is
never called FID. TorchScript is loaded from the published file or from a path that the user names.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biometrics.embedding import load_embedder
from dnnlib import cli, downloads, files
from dnnlib.runs import slug
from evaluation.feature_networks import STANDIN_NAME, RandomConvolutions, build_inception
from evaluation.names import EXTRACTORS, Role
from torch_utils.torchscript import load_torchscript

ADVICE = "--extractor=standin needs no file; docs/metrics.md says where to get the others"
_FOLDER = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
_RELEASE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A published file, the address above it, and its SHA-256 (64 hex digits)."""

    folder: str
    file: str
    sha256: str


INCEPTION = WeightFile(
    folder=_FOLDER,
    file="inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)
VGG16 = WeightFile(
    folder=_FOLDER,
    file="vgg16.pt",
    sha256="b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3",
)
FIDELITY = WeightFile(
    folder=_RELEASE,
    file="weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
# Arguments with which the published modules are called, by role.
_PUBLISHED = {
    Role.FEATURES: (INCEPTION, {"return_features": True}),
    Role.PROBABILITIES: (INCEPTION, {"no_output_bias": True}),
    Role.MANIFOLD: (VGG16, {"return_features": True}),
    Role.PERCEPTUAL: (VGG16, {"resize_images": False, "return_lpips": True}),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Extractor:
    """A network that turns images into features.

    Attributes:
        name: shown beside each number, fit for file names.
        hash: of its weights and of how it is called; features of equal hashes are comparable.
        is_reference: whether it is the published network, so that FID may be called FID.
        compute: [N, 3, H, W] uint8 or float32 0..255 on `device` -> [N, D].
        device: of `compute`.
    """

    name: str
    hash: str
    is_reference: bool = False
    compute: Callable[..., Tensor]
    device: str = "cpu"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return [N, D] float32 of images [N, 3, H, W] uint8 or float32 0..255, any device.

        Raises: ValueError where the network fails, or answers with anything but rows of numbers.
        """
        try:
            rows = self.compute(images.to(self.device))
        except (RuntimeError, TypeError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"extractor {self.name}: fails on images: {reason}") from error
        if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != len(images):
            shape = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(
                f"extractor {self.name}: [N, D] features are needed, got {shape} for"
                f" {len(images)} images"
            )
        return rows.float()


def may_download(choice: str) -> bool:
    """Tell whether a choice without a path fetches published files where the cache lacks them."""
    return choice in ("reference", "torch-fidelity")


def build_extractors(
    choice: str,
    roles: Collection[Role],
    *,
    device: str = "cpu",
) -> dict[Role, Extractor]:
    """Return a network on a device for each role that metrics ask for.

    Args:
        choice: one of evaluation.names.EXTRACTORS.
        roles: to be filled.
        device: that computes.
    Raises: ValueError or FileNotFoundError naming the choice, the file or the role that has none.
    """
    kind, _, path = choice.partition(":")
    match kind:
        case "reference":
            found = _reference(path, roles, device)
        case "torch-fidelity":
            found = _fidelity(path, device)
        case "standin" if not path:
            network = RandomConvolutions().to(device)
            standin = Extractor(
                name=STANDIN_NAME, hash=network.hash, compute=network, device=device
            )
            found = dict.fromkeys((Role.FEATURES, Role.MANIFOLD, Role.PERCEPTUAL), standin)
        case "torchscript" if path:
            script = Extractor(
                name=f"torchscript-{slug(Path(path).stem)}",
                compute=load_torchscript(Path(path), device),
                hash=files.sha256_file(Path(path)),
                device=device,
            )
            found = dict.fromkeys(Role, script)
        case "recogniser" if path:
            embedder = load_embedder(Path(path), device=device)
            name = f"recogniser-{slug(Path(path).stem)}"
            recogniser = Extractor(name=name, hash=embedder.hash, compute=embedder.embed)
            found = dict.fromkeys((Role.FEATURES, Role.MANIFOLD), recogniser)
        case _:
            raise ValueError(f"--extractor must be one of {EXTRACTORS}, got {choice[:200]!r}")
    missing = [role for role in Role if role in roles and role not in found]
    if missing:
        raise ValueError(f"--extractor={choice}: has no {missing[0]} network; {ADVICE}")
    return {role: found[role] for role in roles}


def _reference(folder: str, roles: Collection[Role], device: str) -> dict[Role, Extractor]:
    modules: dict[str, Any] = {}
    found: dict[Role, Extractor] = {}
    for role in roles:
        weights, arguments = _PUBLISHED[role]
        if weights.file not in modules:
            path = Path(folder) / weights.file if folder else None
            modules[weights.file] = load_torchscript(_find(weights, path), device)
        found[role] = Extractor(
            name=weights.file.removesuffix(".pt"),
            hash=weights.sha256 + "".join(f" {name}={v}" for name, v in arguments.items()),
            is_reference=True,
            compute=partial(modules[weights.file], **arguments),
            device=device,
        )
    return found


def _fidelity(file: str, device: str) -> dict[Role, Extractor]:
    path = _find(FIDELITY, Path(file) if file else None)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged or hostile bytes lead to
        raise ValueError(f"{path}: not a readable file of weights") from error
    network = build_inception(state, str(path)).to(device)
    outputs = {
        Role.FEATURES: ("features", network),
        Role.PROBABILITIES: ("classes", network.probabilities),
    }
    return {
        role: Extractor(
            name="inception-2015-12-05",
            hash=f"{FIDELITY.sha256} {output}",
            is_reference=True,
            compute=compute,
            device=device,
        )
        for role, (output, compute) in outputs.items()
    }


def _find(weights: WeightFile, path: Path | None) -> Path:
    """Return the published file at a path, or from the cache or its address; checked."""
    if path is None:
        progress = partial(cli.progress_bar, unit="B")
        try:
            path = downloads.fetch(weights.folder + weights.file, weights.file, progress)
        except ValueError as error:
            raise ValueError(f"{error}; {ADVICE}") from error
    elif not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {ADVICE}")
    if files.sha256_file(path) != weights.sha256:
        raise ValueError(
            f"{path}: not the published {weights.file} (SHA-256 {weights.sha256[:12]}...);"
            " another TorchScript network is given by --extractor=torchscript:FILE"
        )
    return path
