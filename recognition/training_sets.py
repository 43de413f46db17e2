"""The sets of faces that a training is given: learned from, mixed in, held out."""

from collections.abc import Sequence
from pathlib import Path

from data.apart import NamedSet, check_apart
from recognition.face_places import FaceSource
from recognition.face_sets import MEMORY_GIB, FaceSet
from recognition.face_sources import LabelKind, open_faces, take_part


class TrainingSets:
    """Opens sets of faces, none of them twice.

    People of different sets count as different people: in a set that came twice, everybody would be
    two classes, and a set that is learned from measures nothing as the held-out one.

    Args:
        modalities: of all sets.
        joint: RGB and NIR as one image.
        memory_gib: decoded images of a set are kept where they fit into this.
    """

    def __init__(
        self,
        modalities: Sequence[str] = ("rgb",),
        *,
        joint: bool = False,
        memory_gib: float = MEMORY_GIB,
    ) -> None:
        self._modalities, self._is_joint, self._memory_gib = modalities, joint, memory_gib
        self._known: list[NamedSet] = []

    def read(
        self,
        option: str,
        paths: Sequence[Path],
        labels: LabelKind = LabelKind.PEOPLE,
        part: tuple[int | None, int | None] = (None, None),
    ) -> FaceSet:
        """Return the images of an option.

        Args:
            option: named in messages.
            paths: of its sets.
            labels: whom mixed people count as.
            part: how many people of each set, and how many samples of each; None for all.
        Raises: FileNotFoundError; ValueError for a set that was read before (other labels or
            another part of it make no difference), or one that cannot be read.
        """
        sources = [take_part(self._open(option, path, labels), *part) for path in paths]
        return FaceSet(sources, self._modalities, joint=self._is_joint, memory_gib=self._memory_gib)

    def _open(self, option: str, path: Path, labels: LabelKind) -> FaceSource:
        source = open_faces(path, labels)
        places = list(source.samples[0].places.values())
        named = NamedSet(
            option=option,
            path=path,
            content=source.fingerprint,
            first_bytes=lambda: b"".join(place.read() for place in places),
        )
        check_apart(named, self._known)
        self._known.append(named)
        return source
