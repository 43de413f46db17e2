"""What evaluate.py hands to its commands, since packages beside this one are never imported."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.sources import SamplerLoader


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Loaders of networks; a command takes them with `@click.pass_obj`.

    Attributes:
        load_sampler: (snapshot, SamplerOptions) -> what draws images from it.
        load_embedder: (weights of a recogniser, device) -> biometrics.embedding.Embedder.
    """

    load_sampler: "SamplerLoader"
    load_embedder: Callable[..., Any]
