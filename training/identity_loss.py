"""The recogniser of the identity loss: the one that made the conditions, and gives gradients."""

from pathlib import Path

import torch

from biometrics.embedding import Embedder, load_embedder
from biometrics.features import INFO_FILE, FeatureInfo
from data.dataset import PairDataset
from data.labels import IDENTITY_FILE, find_labels_file
from dnnlib import config as configs


def load_loss_embedder(path: Path, dataset: PairDataset, device: str) -> Embedder:
    """Return the frozen recogniser of a data set's identity features.

    Args:
        path: of its file.
        dataset: whose labels are the conditions.
        device: that computes.
    Raises: FileNotFoundError; ValueError where the conditions are no identity features of this
        recogniser, where these are of aligned faces or of both modalities in one image, or where
        the network gives no gradients.
    """
    info, where = _read_info(dataset)
    embedder = load_embedder(path, device=device, flip=info.preprocessing.flip)
    if embedder.hash != info.recogniser:
        raise ValueError(
            f"--rec-model {path}: must be the recogniser that made {where} "
            f"({info.recogniser[:12]}), got {embedder.hash[:12]}"
        )
    if info.preprocessing.align != "none":
        raise ValueError(f"--rec-model: must take images as they are, {where} is of aligned faces")
    if embedder.preprocessing.channels not in (1, 3):
        raise ValueError(
            f"--rec-model {path}: must take one modality, got RGB and NIR in one image"
        )
    embedder.backbone.requires_grad_(False)
    _check_gradients(embedder, path, dataset.resolution)
    return embedder


def _read_info(dataset: PairDataset) -> tuple[FeatureInfo, str]:
    found = find_labels_file(dataset.samples, IDENTITY_FILE) if dataset.c_dim else None
    if found is None:
        raise ValueError(
            f"--identity-weight needs conditions, --cond=1 with {IDENTITY_FILE} in the data"
        )
    folder, name = found
    info = name.removesuffix(IDENTITY_FILE) + INFO_FILE
    if not folder.exists(info):
        raise ValueError(
            f"--identity-weight needs {folder.describe(info)}, which says whose features these "
            "are; create_identity_features.py writes it"
        )
    return configs.from_dict(FeatureInfo, folder.read_json(info), folder.describe(info)), name


def _check_gradients(embedder: Embedder, path: Path, resolution: int) -> None:
    image = torch.zeros([2, 3, resolution, resolution], device=embedder.device, requires_grad=True)
    if not embedder.embed_float(image).requires_grad:
        raise ValueError(
            f"--rec-model {path}: must give gradients, an ONNX network has none; take its .pth or "
            "TorchScript form"
        )
