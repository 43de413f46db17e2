"""Give an unconditional network a condition that it learns from there on."""

from collections.abc import Mapping

import torch
from torch import Tensor

from networks.config import DiscriminatorConfig, GeneratorConfig

_FIRST = "mapping.fc0.weight"
_ANSWER = "epilogue.out."

# Parts of the names of tensors that start random, as nothing in the snapshot stands for them.
NEW_IN_GENERATOR = ("mapping.embed.",)
NEW_IN_DISCRIMINATOR = ("mapping.", _ANSWER)


def condition_generator(state: Mapping[str, Tensor], config: GeneratorConfig) -> dict[str, Tensor]:
    """Return an unconditional generator's tensors for one that also sees a condition.

    The embedded condition enters the first mapping layer beside z, with copies of z's weights: both
    have mean square 1 and runtime gains are 1 / sqrt(inputs), so the condition takes the part of
    half a latent, and what is drawn at the start looks as before but depends on it. (Weights of
    zero would hardly move: the mapping learns a hundred times slower than the rest.)
    """
    embed = config.mapping.embed_features or config.w_dim
    weight = state[_FIRST]
    columns = torch.arange(embed, device=weight.device) % weight.shape[1]
    return {**state, _FIRST: torch.cat([weight, weight[:, columns]], dim=1)}


def condition_discriminator(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an unconditional discriminator's tensors without its last layer.

    Instead of one number the last layer answers a vector, which is projected on the condition.
    """
    return {name: tensor for name, tensor in state.items() if _ANSWER not in name}


def add_condition(
    state: Mapping[str, Tensor], config: GeneratorConfig | DiscriminatorConfig
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors for a conditional network, and parts of the names that start random."""
    if isinstance(config, GeneratorConfig):
        return condition_generator(state, config), NEW_IN_GENERATOR
    return condition_discriminator(state), NEW_IN_DISCRIMINATOR
