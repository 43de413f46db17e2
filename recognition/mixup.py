"""Mixtures of two images or of two identities, with labels mixed alike (SynFace)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from biometrics.features import mixed_direction
from metrics.nearest import unit_rows
from networks.sampling import Sampler
from recognition.face_sets import FaceSet, Target, as_input
from torch_utils.seeding import generator_for

PHI_STEPS = 20


def draw_mixture(random: torch.Generator) -> tuple[float, float]:
    """Return chance and phi.

    Returns: a number in 0..1, below which the share of images that are mixed decides for one; and
        the first's share of the mixture, one of 0, 0.05, ..., 1.
    Source: Qiu et al. 2021 (SynFace, arXiv:2108.07960): 0 to 1 in steps of 0.05.
    """
    chance = float(torch.rand([], generator=random))
    return chance, int(torch.randint(PHI_STEPS + 1, [], generator=random)) / PHI_STEPS


@dataclass(frozen=True)
class DomainMixup:
    """Real images that are mixed into a training set's images.

    Each image of the training set meets one of these, which go round in their own order: the two
    sets may have any sizes. Their identities are further classes.
    """

    faces: FaceSet  # the real images, of the training set's modalities
    share: float = 1.0  # of the training set's images that are mixed, in 0..1


class IdentityMixup:
    """Images generated from mixtures of two identities' conditions; they replace some of the set's.

    Image k has the condition phi x a + (1 - phi) x b at the recorded length, a latent of its own,
    and the labels a and b in the same shares; all of it is a function of (seed, k).

    Args:
        generator: conditional.
        directions: [I, E], a vector for each identity of the training set, as conditions have.
        modalities: of the training set.
        is_joint: whether they are one image.
        scale: length of conditions.
        share: of the training set's images that are replaced, in 0..1.
        seed: of everything drawn.
        images: how many different ones there are; they are kept in memory and come again. None
            generates new ones for ever.
    Raises: ValueError for a modality that the generator lacks.
    Source: Qiu et al. 2021 (SynFace, arXiv:2108.07960), there of identity coefficients of a 3D
        face model; the mixture's length is kept here, as conditions have one length in training.
    """

    def __init__(
        self,
        generator: Sampler,
        directions: np.ndarray,
        *,
        modalities: Sequence[str],
        is_joint: bool,
        scale: float,
        share: float = 1.0,
        seed: int = 0,
        images: int | None = None,
    ) -> None:
        lacking = [name for name in modalities if name not in generator.modalities]
        if lacking:
            raise ValueError(f"identity mixup: the generator makes no {lacking[0]} images")
        self._directions = unit_rows(directions)
        self._generator, self._modalities, self._is_joint = generator, modalities, is_joint
        self._scale, self.share, self._seed, self._images = scale, share, seed, images
        self._kept: dict[int, Mapping[str, np.ndarray]] = {}

    def rows(self, positions: Sequence[int]) -> list[int]:
        """Return which of a step's images are replaced."""
        streams = [generator_for(self._seed, "identity share", p) for p in positions]
        return [i for i, stream in enumerate(streams) if draw_mixture(stream)[0] < self.share]

    def sample(
        self, positions: Sequence[int], columns: Sequence[int]
    ) -> list[tuple[Tensor, Target]]:
        """Return images, [C, R, R] uint8, and whom they show.

        Args:
            positions: in the run.
            columns: the modality of each.
        """
        numbers = [p if self._images is None else p % self._images for p in positions]
        mixtures = [self.mixture(number) for number in numbers]
        pixels = self._pixels(numbers)
        found = []
        for (target, _, _), parts, column in zip(mixtures, pixels, columns, strict=True):
            wanted = self._modalities if self._is_joint else [self._modalities[column]]
            image = as_input([parts[name] for name in wanted], is_joint=self._is_joint)
            found.append((image, target))
        return found

    def mixture(self, number: int) -> tuple[Target, Tensor, Tensor]:
        """Return whom image `number` shows, its latent [Z] and its condition [E]."""
        random = generator_for(self._seed, "identity", number)
        _, phi = draw_mixture(random)
        identities = len(self._directions)
        first = int(torch.randint(identities, [], generator=random))
        second = (first + 1 + int(torch.randint(identities - 1, [], generator=random))) % identities
        latent = torch.randn([self._generator.z_dim], generator=random)
        mixed = mixed_direction(self._directions[first], self._directions[second], phi)
        condition = mixed * np.float32(self._scale)
        return Target((first, second), (phi, 1 - phi)), latent, torch.from_numpy(condition)

    def _pixels(self, numbers: Sequence[int]) -> list[Mapping[str, np.ndarray]]:
        made = {number: self._kept[number] for number in numbers if number in self._kept}
        new = [number for number in dict.fromkeys(numbers) if number not in made]
        if new:
            _, latents, conditions = zip(*(self.mixture(number) for number in new), strict=True)
            ws = self._generator.map(torch.stack(latents), torch.stack(conditions))
            images = self._generator.pixels(ws)
            arrays = {name: images[name].numpy() for name in self._modalities}
            for row, number in enumerate(new):
                made[number] = {name: array[row] for name, array in arrays.items()}
        if self._images is not None:
            self._kept.update(made)
        return [made[number] for number in numbers]


def shifted(target: Target, offset: int) -> Target:
    """Return the same identities, numbered from `offset` on."""
    return Target(tuple(identity + offset for identity in target.identities), target.weights)
