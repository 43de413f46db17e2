"""Training of a refiner against a discriminator of patches, with exact continuation."""

import logging
import math
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.pixels import to_float, to_uint8
from data.sampler import InfiniteSampler
from data.sheets import before_after, save_image, spread_indices
from dnnlib import files
from dnnlib.outputs import OutputFolder
from refinement.history import HistoryBuffer
from refinement.images import JointImages, Masks
from refinement.losses import discriminator_loss, region_weights
from refinement.model_files import MICRO_BATCH, TrainedRefiner, save_refiner
from refinement.networks import PatchConfig, PatchDiscriminator, Refiner, RefinerConfig
from refinement.objective import Objective, Terms
from refinement.options import RefinementConfig
from torch_utils.checkpoints import load_checkpoint, save_checkpoint
from torch_utils.precision import Precision
from torch_utils.seeding import derive_seed, generator_for

RECORD_FILE = "training_options.json"
STATS_FILE = "stats.jsonl"
MODEL_FILE = "refiner.pt"
CHECKPOINT_FILE = "checkpoint.pt"
SHEET_FILE = "before_after.png"

Row = dict[str, Any]
_log = logging.getLogger(__name__)


class Phase(Enum):
    """Parts of the training, in their order."""

    REFINER_WARMUP = "refiner warm-up"
    DISCRIMINATOR_WARMUP = "discriminator warm-up"
    ROUNDS = "rounds"


class Learning:
    """A refiner in training.

    Args:
        rendered: images to refine.
        real: images to be like.
        config: of everything.
        device: where to compute.
        masks: of the rendered images, with `class_weights`; None weighs all pixels alike.
        class_weights: [256] float32, factor of the regularisation in each class.
        network: images -> features, where the regularisation compares those.
    Raises: ValueError where the two data sets do not fit each other or the batch.
    """

    def __init__(
        self,
        rendered: JointImages,
        real: JointImages,
        config: RefinementConfig,
        device: torch.device,
        *,
        masks: Masks | None = None,
        class_weights: Tensor | None = None,
        network: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        _check_fit(rendered, real, config)
        Precision.FP32.use_on(device)
        self.rendered, self.real, self.config, self.device = rendered, real, config, device
        self.masks, self.class_weights = masks, class_weights
        self.objective = Objective(config, rendered.channels, network)
        channels = sum(rendered.channels)
        shape = RefinerConfig(
            channels=channels,
            width=config.width,
            blocks=config.blocks,
            kernel=config.kernel,
            starts_as_identity=config.starts_as_identity,
        )
        patches = PatchConfig(channels=channels, kind=config.patches, width=config.patch_width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, "refinement"))
            networks = {"refiner": Refiner(shape), "discriminator": PatchDiscriminator(patches)}
            if config.cycle > 0:
                networks["back"] = Refiner(shape)
        self.networks = nn.ModuleDict(networks).to(device)
        self.refiner: Refiner = self.networks["refiner"]
        self.discriminator: PatchDiscriminator = self.networks["discriminator"]
        self.optimizers = self._build_optimizers()
        self.history = HistoryBuffer(config.history)
        self.samplers = {
            name: InfiniteSampler(len(images), derive_seed(config.seed, name) % (1 << 32))
            for name, images in (("rendered", rendered), ("real", real))
        }
        self.drawn = dict.fromkeys(self.samplers, 0)
        self.step = 0
        self.rows: list[Row] = []

    @property
    def steps(self) -> int:
        """Steps of the whole training, with the warm-ups."""
        config = self.config
        return config.refiner_warmup + config.discriminator_warmup + config.steps

    @property
    def phase(self) -> Phase:
        """Phase of the next step."""
        if self.step < self.config.refiner_warmup:
            return Phase.REFINER_WARMUP
        if self.step < self.config.refiner_warmup + self.config.discriminator_warmup:
            return Phase.DISCRIMINATOR_WARMUP
        return Phase.ROUNDS

    def run(self, output: OutputFolder, snap: int, progress: Callable[[int], None]) -> Row:
        """Train to the end, continuing what is in the folder; return the last steps' numbers.

        Args:
            output: folder that is not finished.
            snap: steps between checkpoints; does not change the result.
            progress: called with the number of further steps.
        Raises: FloatingPointError where a loss is no longer finite; the last checkpoint is kept.
        """
        checkpoint = output.path / CHECKPOINT_FILE
        if checkpoint.is_file():
            self._load(checkpoint)
            progress(self.step)
            _log.info("continuing at step %d of %d", self.step, self.steps)
        while self.step < self.steps:
            self.rows.append(self._run_until(min(self.step + snap, self.steps), progress))
            self._save(checkpoint)
            files.write_json_lines(output.path / STATS_FILE, self.rows)
        save_refiner(output.path / MODEL_FILE, self.refiner, self.rendered.modalities)
        save_image(output.path / SHEET_FILE, self.sheet())
        output.finish({"result": self.rows[-1]})
        checkpoint.unlink(missing_ok=True)
        return self.rows[-1]

    def update(self) -> Terms:
        """Take one step of the present phase; return its terms, a number each."""
        config, terms = self.config, Terms()
        match self.phase:
            case Phase.REFINER_WARMUP:
                terms |= self._update_refiner(is_judged=False)
            case Phase.DISCRIMINATOR_WARMUP:
                terms |= self._update_discriminator(uses_history=False)
            case Phase.ROUNDS:
                for _ in range(config.refiner_updates):
                    terms |= self._update_refiner(is_judged=True)
                for _ in range(config.discriminator_updates):
                    terms |= self._update_discriminator(uses_history=True)
        self.step += 1
        return terms

    def trained(self) -> TrainedRefiner:
        """Return the refiner as it is."""
        return TrainedRefiner(self.refiner, self.rendered.modalities, f"step {self.step}")

    def sheet(self) -> Any:
        """Draw some rendered images before and after: [3, h, w] uint8."""
        before = self.rendered.batch(spread_indices(len(self.rendered), MICRO_BATCH))
        after = self.trained().refine(before)
        return before_after(self._apart(before), self._apart(after))

    def _run_until(self, end: int, progress: Callable[[int], None]) -> Row:
        began, sums, counts = time.perf_counter(), Terms(), dict[str, int]()
        while self.step < end:
            for name, term in self.update().items():
                sums[name] = sums.get(name, torch.zeros_like(term)) + term
                counts[name] = counts.get(name, 0) + 1
            progress(1)
        means = {name: float(total) / counts[name] for name, total in sums.items()}
        weights = self.networks.named_parameters()
        lost = [name for name, value in means.items() if not math.isfinite(value)]
        lost += [name for name, tensor in weights if not bool(tensor.isfinite().all())]
        if lost:
            raise FloatingPointError(
                f"{lost[0]} is no longer finite at step {self.step}: lower lr "
                f"({self.config.lr}) or discriminator_lr ({self.config.discriminator_lr}); "
                "the last good checkpoint is kept"
            )
        row = {"step": self.step, **means, "seconds": round(time.perf_counter() - began, 3)}
        _log.info("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
        return row

    def _update_refiner(self, *, is_judged: bool) -> Terms:
        x, weights = self._draw_rendered(self.config.batch)
        self.discriminator.requires_grad_(False)
        refined = self.refiner(x)
        terms = {"regularisation": self.objective.regularisation(x, refined, weights)}
        if is_judged:
            terms["realism"] = self.objective.realism(self.discriminator, refined)
        if "back" in self.networks:
            back, y = self.networks["back"], self._draw_real(self.config.batch)
            terms |= self.objective.cycle(self.refiner, back, x, refined, y)
        self._descend("refiner", self.objective.total(terms))
        self.discriminator.requires_grad_(True)
        return {name: term.detach().mean() for name, term in terms.items()}

    def _update_discriminator(self, *, uses_history: bool) -> Terms:
        config = self.config
        old = self.history.share_of(config.batch) if uses_history else 0
        x, _ = self._draw_rendered(config.batch - old)
        with torch.no_grad():
            refined = self.refiner(x)
        if uses_history:
            refined = self._mix_with_history(refined, old)
        answers = {
            "refined": self.discriminator(refined),
            "real": self.discriminator(self._draw_real(config.batch)),
        }
        losses = [
            discriminator_loss(logits, is_refined=name == "refined", smoothing=config.smoothing)
            for name, logits in answers.items()
        ]
        loss = sum(term.mean() for term in losses)
        assert isinstance(loss, Tensor), "there are two kinds of images"
        self._descend("discriminator", loss)
        return {
            "discriminator": loss.detach(),
            "told_refined": (answers["refined"].detach() > 0).float().mean(),
            "told_real": (answers["real"].detach() <= 0).float().mean(),
        }

    def _mix_with_history(self, refined: Tensor, old: int) -> Tensor:
        """Return new images and `old` earlier ones; half a batch of the new ones is kept."""
        random = generator_for(self.config.seed, "history", self.drawn["real"])
        drawn = [to_float(self.history.draw(old, random).to(self.device))] if old else []
        self.history.add(to_uint8(refined[: self.config.batch // 2]), random)
        return torch.cat([refined, *drawn])

    def _descend(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def _draw_rendered(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Return the next images in -1..1, and the weights of their pixels."""
        places = self._next_places("rendered", count)
        x = to_float(self.rendered.batch(places).to(self.device))
        if self.masks is None or self.class_weights is None:
            return x, None
        return x, region_weights(self.masks.batch(places).to(self.device), self.class_weights)

    def _draw_real(self, count: int) -> Tensor:
        return to_float(self.real.batch(self._next_places("real", count)).to(self.device))

    def _next_places(self, side: str, count: int) -> list[int]:
        start = self.drawn[side]
        self.drawn[side] += count
        return [self.samplers[side].index_at(start + i) for i in range(count)]

    def _apart(self, images: Tensor) -> list[dict[str, Any]]:
        """Split [n, C, R, R] into samples of modality -> array."""
        names = [modality.name for modality in self.rendered.modalities]
        parts = [part.numpy() for part in images.split(list(self.rendered.channels), 1)]
        return [
            {name: part[i] for name, part in zip(names, parts, strict=True)}
            for i in range(len(images))
        ]

    def _build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        groups = {
            "refiner": (config.lr, ("refiner", "back")),
            "discriminator": (config.discriminator_lr, ("discriminator",)),
        }
        return {
            name: torch.optim.Adam(
                [
                    p
                    for key in keys
                    if key in self.networks
                    for p in self.networks[key].parameters()
                ],
                lr=lr,
                betas=(config.beta1, config.beta2),
            )
            for name, (lr, keys) in groups.items()
        }

    def _save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "rows": self.rows,
            "drawn": self.drawn,
            "networks": self.networks.state_dict(),
            "optimizers": {name: opt.state_dict() for name, opt in self.optimizers.items()},
            "history": self.history.state_dict(),
        }
        save_checkpoint(path, state)

    def _load(self, path: Path) -> None:
        state = load_checkpoint(path, torch.device("cpu"))  # the optimizer counts steps there
        self.step, self.rows, self.drawn = state["step"], state["rows"], state["drawn"]
        self.networks.load_state_dict(state["networks"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.history.load_state_dict(state["history"])


def learn(
    learning: Learning, output: OutputFolder, snap: int, progress: Callable[[int], None]
) -> Row:
    """Train in a folder that no other process works in; see `Learning.run`."""
    with output.at_work():
        return learning.run(output, snap, progress)


def _check_fit(rendered: JointImages, real: JointImages, config: RefinementConfig) -> None:
    if rendered.modalities != real.modalities:
        names = [[modality.name for modality in images.modalities] for images in (rendered, real)]
        raise ValueError(f"--data and --real must have the same modalities, got {names}")
    if rendered.pairs.resolution != real.pairs.resolution:
        raise ValueError(
            "--data and --real must have images of one size, got "
            f"{rendered.pairs.resolution} and {real.pairs.resolution} pixels"
        )
    for option, images in (("--data", rendered), ("--real", real)):
        if len(images) < config.batch:
            raise ValueError(
                f"--batch must be at most the {len(images)} pairs of {option}, got {config.batch}"
            )
