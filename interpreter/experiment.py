"""The published JSON files of an interpreter experiment, with our further keys."""

import logging
import math
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from dnnlib import config as configs
from dnnlib import files
from networks.options import Truncation

# Read by the published code, but nothing depends on them here: sizes come from network and data.
UNUSED_KEYS = frozenset(
    {
        "average_latent",
        "category",
        "debug",
        "deeplab_res",
        "dim",
        "expand_to_dimensions",
        "testing_data_number_class",
        "testing_path",
        "upsample_threshold",
    }
)
_TRAINING = (
    *("model_num", "batch_size", "class_balance", "stopping", "learning_rate", "max_epochs"),
    *("max_steps", "heldout_fraction", "heldout_pixels", "evaluate_every", "patience", "seed"),
)
_logger = logging.getLogger(__name__)


class Stopping(StrEnum):
    """When a member has learnt enough.

    HELDOUT: its loss on held-out pixels has not fallen for some evaluations; the best is kept.
    PUBLISHED: after epoch 3, counted from 0, more than 50 batches without a loss below those of all
    batches since then.
    """

    HELDOUT = "heldout"
    PUBLISHED = "published"


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Keys of generate.json and train_datagan.json.

    Published keys:
        exp_dir: folder that relative paths are looked up in, where they do not exist as they are.
        stylegan_checkpoint: snapshot of the generator.
        stylegan_ver: must be "2".
        annotation_mask_path: folder of image_maskN.npy; by number, the first `max_training`.
        annotation_image_latent_path: .npy, row k belongs to the k-th mask.
        annotation_data_from_w: latents are in w already, [N, w_dim] or [N, num_ws, w_dim].
        max_training: number of annotated images that are used.
        number_class: classes; 0 takes what annotations.json or the masks say.
        model_num: members of the ensemble.
        batch_size: pixels a step and member.
        upsample_mode: must be "bilinear".

    Ours:
        truncation_psi, truncation_cutoff: of annotated and generated images; null cuts nowhere.
        use_raw_g: G instead of its average G_ema.
        annotation_label_path: .npy with the condition of the k-th mask, for conditional networks.
        min_region_pixels: classes with fewer pixels in a mask become class 0.
        class_balance: 0..1, how much more often small classes are sampled (task.PixelSampler); the
            held-out loss weighs them alike. 0 is published.
        stopping: when a member stops.
        learning_rate: of Adam.
        max_epochs: limit, in passes over as many pixels as there are.
        max_steps: limit in steps; 0 is none.
        heldout_fraction: share of the image area, in tiles, kept from training under HELDOUT.
        heldout_pixels: of these, pixels that are measured in an evaluation.
        evaluate_every: steps between evaluations and checkpoints.
        patience: evaluations without a lower held-out loss after which a member stops.
        seed: random seed.
    """

    exp_dir: str = "."
    stylegan_checkpoint: str = ""
    stylegan_ver: str = "2"
    annotation_mask_path: str = ""
    annotation_image_latent_path: str = ""
    annotation_data_from_w: bool = False
    max_training: int = 8
    number_class: int = 0
    model_num: int = 10
    batch_size: int = 64
    upsample_mode: str = "bilinear"
    truncation_psi: float = 0.5
    truncation_cutoff: int | None = 8
    use_raw_g: bool = False
    annotation_label_path: str = ""
    min_region_pixels: int = 30
    class_balance: float = 0.5
    stopping: Stopping = Stopping.HELDOUT
    learning_rate: float = 1e-3
    max_epochs: int = 100
    max_steps: int = 2000
    heldout_fraction: float = 0.0625
    heldout_pixels: int = 2048
    evaluate_every: int = 100
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.stylegan_ver != "2":
            raise ValueError(f'stylegan_ver must be "2", got {self.stylegan_ver!r}')
        if self.upsample_mode != "bilinear":
            raise ValueError(f'upsample_mode must be "bilinear", got {self.upsample_mode!r}')
        least = {"max_training": 1, "number_class": 0, "model_num": 1, "min_region_pixels": 0}
        least |= {"batch_size": 2, "max_epochs": 1, "max_steps": 0, "heldout_pixels": 1}
        least |= {"evaluate_every": 1, "patience": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")
        if self.truncation_cutoff is not None and self.truncation_cutoff < 0:
            raise ValueError(f"truncation_cutoff must be 0 or more, got {self.truncation_cutoff}")
        if not math.isfinite(self.truncation_psi):
            raise ValueError(f"truncation_psi must be a number, got {self.truncation_psi}")
        if not 0 <= self.class_balance <= 1:
            raise ValueError(f"class_balance must be within 0..1, got {self.class_balance}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 < self.heldout_fraction < 1:
            raise ValueError(f"heldout_fraction must be within 0..1, got {self.heldout_fraction}")

    @property
    def training(self) -> dict[str, Any]:
        """What decides the training besides its data, as plain JSON values."""
        return {name: configs.to_dict(self)[name] for name in _TRAINING}

    @property
    def truncation(self) -> Truncation:
        """Truncation of annotated and generated images."""
        return Truncation(psi=self.truncation_psi, cutoff=self.truncation_cutoff)

    @property
    def network_name(self) -> str:
        """Which of a snapshot's generators is used."""
        return "G" if self.use_raw_g else "G_ema"

    def path(self, key: str) -> Path:
        """Return a path key's file or folder.

        Raises: ValueError where the key is empty; FileNotFoundError where it names nothing.
        """
        value = getattr(self, key)
        if not value:
            raise ValueError(f"{key} must name a file or folder, it is empty")
        as_it_is, below = Path(value), Path(self.exp_dir) / value
        for path in (as_it_is, below):
            if path.exists():
                return path
        raise FileNotFoundError(f"{key}: neither {as_it_is} nor {below} exists")


def load_experiment(path: Path, overrides: dict[str, Any] | None = None) -> Experiment:
    """Read an experiment's JSON file.

    Keys that only the published code used are named in a warning.

    Args:
        path: the file.
        overrides: values that go before the file's, such as options of the command line; None
            values are skipped.
    Raises: FileNotFoundError; ValueError for an unknown key or a wrong value.
    """
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object of options")
    known = {entry.name for entry in fields(Experiment)}
    unknown = [key for key in content if key not in known | UNUSED_KEYS]
    if unknown:
        hint = configs.suggest(unknown[0], known | UNUSED_KEYS)
        raise ValueError(f"{path}: unknown key {unknown[0]!r}{hint}")
    unused = sorted(content.keys() & UNUSED_KEYS)
    if unused:
        _logger.warning("%s: not used here: %s", path, ", ".join(unused))
    values = {key: value for key, value in content.items() if key in known}
    values |= {key: value for key, value in (overrides or {}).items() if value is not None}
    try:
        return configs.from_dict(Experiment, values, str(path))
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(path)) else f"{path}: {text}") from error
