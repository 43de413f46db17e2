"""Sets that must hold different samples: learned from, mixed in, and measured on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class NamedSet:
    """A whole set as an option names it.

    Attributes:
        option: such as "--data".
        path: given with it.
        content: text that copies of the set share, such as a hash of names and file sizes.
        first_bytes: reads the files of the first sample. Files without compression have equal sizes
            in different sets, too.
    """

    option: str
    path: Path
    content: str
    first_bytes: Callable[[], bytes]

    def is_same_as(self, other: "NamedSet") -> bool:
        """Return whether both are one folder or file, or copies of each other."""
        if self.path.resolve() == other.path.resolve():
            return True
        return self.content == other.content and self.first_bytes() == other.first_bytes()


def check_apart(new: NamedSet, known: Iterable[NamedSet]) -> None:
    """Refuse a set that is one of others.

    Raises: ValueError that names both.
    """
    for other in known:
        if new.is_same_as(other):
            raise ValueError(
                f"{new.option} {new.path}: must hold other samples than {other.option} "
                f"{other.path}, got the same"
            )
