"""What evaluate.py hands to its commands, since packages beside this one are never imported."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Loaders of networks; a command takes them with `@click.pass_obj`.

    Attributes:
        load_embedder: (weights of a recogniser, device) -> biometrics.embedding.Embedder.
    """

    load_embedder: Callable[..., Any]
