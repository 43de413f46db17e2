"""The published JSON files of an interpreter experiment, with our further keys.

Images for annotation, models and data sets of an experiment come of one network: what they record
of it, and how that is compared, stands here too.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from torch import Tensor

from dnnlib import config as configs
from dnnlib import files
from dnnlib.options import KEY, option
from interpreter.options import ExperimentOptions
from networks.generator import Generator
from networks.options import Truncation
from networks.sampling import IndexedSampler, load_conditions
from networks.snapshot import Snapshot, load_generator
from torch_utils.checkpoints import state_sha256
from torch_utils.devices import resolve_repeatable
from torch_utils.distributed import local_rank

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
TRUNCATION_KEYS = ("truncation_psi", "truncation_cutoff")
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
    """Keys of generate.json and train_datagan.json; those from `truncation_psi` on are ours."""

    exp_dir: str = option(
        ".",
        help="Folder that relative paths are looked up in, where they do not exist as they are.",
    )
    stylegan_checkpoint: str = option("", help="Snapshot of the generator.")
    stylegan_ver: str = option("2", help='Must be "2".')
    annotation_mask_path: str = option(
        "", help="Folder of image_maskN.npy; by number, the first `max_training`."
    )
    annotation_image_latent_path: str = option("", help=".npy, row k belongs to the k-th mask.")
    annotation_data_from_w: bool = option(
        False, help="Latents are in w already, [N, w_dim] or [N, num_ws, w_dim]."
    )
    max_training: int = option(8, ge=1, help="Number of annotated images that are used.")
    number_class: int = option(
        0, ge=0, help="Classes; 0 takes what annotations.json or the masks say."
    )
    model_num: int = option(10, ge=1, help="Members of the ensemble.")
    batch_size: int = option(64, ge=2, help="Pixels per step and member.")
    upsample_mode: str = option("bilinear", help='Must be "bilinear".')

    truncation_psi: float = option(0.5, help="Truncation of annotated and generated images.")
    truncation_cutoff: int | None = option(
        8, ge=0, help="Number of first layers to truncate; null is all."
    )
    use_raw_g: bool = option(False, help="G instead of its average G_ema.")
    annotation_label_path: str = option(
        "", help=".npy with the condition of the k-th mask, for conditional networks."
    )
    min_region_pixels: int = option(
        30, ge=0, help="Classes with fewer pixels in a mask become class 0."
    )
    class_balance: float = option(
        0.5,
        ge=0,
        le=1,
        help="How much more often small classes are sampled (task.PixelSampler); the held-out loss"
        " weighs them alike. 0 is published.",
    )
    stopping: Stopping = option(Stopping.HELDOUT, help="When a member stops.")
    learning_rate: float = option(1e-3, gt=0, help="Of Adam.")
    max_epochs: int = option(100, ge=1, help="Limit, in passes over as many pixels as there are.")
    max_steps: int = option(2000, ge=0, help="Limit in steps; 0 is none.")
    heldout_fraction: float = option(
        0.0625,
        gt=0,
        lt=1,
        help="Share of the image area, in tiles, kept from training under HELDOUT.",
    )
    heldout_pixels: int = option(
        2048, ge=1, help="Of these, pixels that are measured in an evaluation."
    )
    evaluate_every: int = option(100, ge=1, help="Steps between evaluations and checkpoints.")
    patience: int = option(
        5, ge=1, help="Evaluations without a lower held-out loss after which a member stops."
    )
    seed: int = option(0, help="Random seed.")

    def __post_init__(self) -> None:
        for entry in fields(self):
            entry.metadata[KEY].check(entry.name, getattr(self, entry.name))
        for name, only in (("stylegan_ver", "2"), ("upsample_mode", "bilinear")):
            if getattr(self, name) != only:
                raise ValueError(f'{name} must be "{only}", got {getattr(self, name)!r}')

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
    content = files.read_object(path)
    unused = sorted(content.keys() & UNUSED_KEYS)
    if unused:
        _logger.warning("%s: not used here: %s", path, ", ".join(unused))
    values = {key: value for key, value in content.items() if key not in UNUSED_KEYS}
    values |= {key: value for key, value in (overrides or {}).items() if value is not None}
    return configs.from_dict(Experiment, values, str(path))


def load_network(options: ExperimentOptions, experiment: Experiment) -> tuple[Generator, Snapshot]:
    """Return the generator of the experiment's snapshot, or of --network, and that snapshot."""
    device = resolve_repeatable(options.device, local_rank())
    return load_generator(
        snapshot_path(options, experiment), device, use_raw_g=experiment.use_raw_g
    )


def snapshot_path(options: ExperimentOptions, experiment: Experiment) -> Path:
    """Return the file of the snapshot."""
    return options.network or experiment.path("stylegan_checkpoint")


def load_sampler(
    options: ExperimentOptions, experiment: Experiment, *, stream: str, seed: int
) -> tuple[IndexedSampler, Snapshot]:
    """Return the samples of the network, with --labels as conditions, and the snapshot.

    See `IndexedSampler`.
    """
    generator, snapshot = load_network(options, experiment)
    sampler = IndexedSampler(
        generator,
        load_conditions(options.labels, "--labels", snapshot.feature_scale),
        name="--labels",
        stream=stream,
        truncation=experiment.truncation,
        seed=seed,
    )
    return sampler, snapshot


def origin_of(generator: Generator, experiment: Experiment) -> dict[str, Any]:
    """Return what decides an experiment's images besides latents, as plain JSON values."""
    return {
        "network": experiment.network_name,
        **{key: getattr(experiment, key) for key in TRUNCATION_KEYS},
        "network_sha256": state_sha256(generator.state_dict()),
    }


def origin_of_annotated(generator: Generator, experiment: Experiment) -> dict[str, Any]:
    """Return `origin_of` annotated images; where their latents are ws, truncation is done."""
    origin = origin_of(generator, experiment)
    if not experiment.annotation_data_from_w:
        return origin
    return {key: value for key, value in origin.items() if key not in TRUNCATION_KEYS}


def check_origin(
    recorded: Mapping[str, Any] | None,
    origin: Mapping[str, Any],
    what: str,
    may_differ: Collection[str] = (),
) -> None:
    """Check that what was made before belongs to the network in use.

    Args:
        recorded: what it says of its origin; nothing, as in published folders, is a warning.
        origin: of today, see `origin_of`.
        what: was made, for messages.
        may_differ: keys of which another value is a warning.
    Raises: ValueError for another value of other keys, or a record that is no object.
    """
    if recorded is not None and not isinstance(recorded, Mapping):
        raise ValueError(f"{what} with a network whose record is no object: {recorded!r:.80}")
    if not recorded:
        _logger.warning("%s with a network that no record names, as in published folders", what)
        return
    for key, value in origin.items():
        found = recorded.get(key)
        if found == value or (key == "network" and key not in recorded):  # as models were recorded
            continue
        has_truncation = bool(recorded.keys() & set(TRUNCATION_KEYS))
        if key in TRUNCATION_KEYS and key not in may_differ and not has_truncation:
            raise ValueError(
                f"{what} without truncation, as latents are that are ws already: the experiment's"
                ' JSON needs "annotation_data_from_w": true'
            )
        message = f"stylegan_checkpoint: {what} with {key} {_short(found)}, this is {_short(value)}"
        if key not in may_differ:
            raise ValueError(message)
        _logger.warning("%s", message)


def conditions_sha256(conditions: Tensor | None) -> str | None:
    """Return 64 hex digits of the conditions that samples take; None for none."""
    if conditions is None:
        return None
    return hashlib.sha256(conditions.contiguous().numpy()).hexdigest()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:12]}..."
