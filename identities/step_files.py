"""What a step of work leaves on disk, so that other processes and a continued run can go on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from biometrics.faces import FaceReason
from dnnlib import files
from identities.decisions import Decision, PairScores
from metrics.nearest import Nearest

WORK_FOLDER = ".work"
_FACES = list(FaceReason)


class StepFiles:
    """The files of one step.

    Args:
        folder: of the data set.
        number: of the step.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder / WORK_FOLDER / f"step-{number:06d}"

    def has_scores(self, chunk: int) -> bool:
        """Tell whether a chunk's scores are there."""
        return self._scores(chunk).is_file()

    def has_decisions(self) -> bool:
        """Tell whether the step is decided."""
        return self._decisions.is_file()

    def has_images(self, chunk: int) -> bool:
        """Tell whether a chunk's accepted images are written."""
        return self._images(chunk).is_file()

    def save_scores(self, chunk: int, scores: PairScores) -> None:
        """Write a chunk's scores."""
        arrays: dict[str, np.ndarray] = {"vectors": scores.vectors, "agreement": scores.agreement}
        for name, nearest in scores.training.items():
            arrays |= {f"scores_{name}": nearest.scores, f"indices_{name}": nearest.indices}
            codes = [-1 if face is None else _FACES.index(face) for face in scores.faces[name]]
            arrays[f"faces_{name}"] = np.array(codes, np.int8)
        with files.atomic_write(self._scores(chunk)) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def load_scores(self, chunks: int) -> PairScores:
        """Read the scores of all chunks."""
        parts = []
        for chunk in range(chunks):
            with np.load(self._scores(chunk), allow_pickle=False) as content:
                parts.append({name: content[name] for name in content.files})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        names = [name.removeprefix("scores_") for name in joined if name.startswith("scores_")]
        return PairScores(
            vectors=joined["vectors"],
            training={n: Nearest(joined[f"scores_{n}"], joined[f"indices_{n}"]) for n in names},
            agreement=joined["agreement"],
            faces={
                n: [None if code < 0 else _FACES[code] for code in joined[f"faces_{n}"]]
                for n in names
            },
        )

    def save_decisions(self, decisions: Sequence[Decision]) -> None:
        """Write what became of the step's candidates."""
        files.write_json(
            self._decisions, [decision.as_row() for decision in decisions], indent=None
        )

    def load_decisions(self) -> list[Decision]:
        """Read what became of the step's candidates."""
        return [Decision.from_row(row) for row in files.read_json(self._decisions)]

    def save_images(self, chunk: int, sums: dict[str, str]) -> None:
        """Note that a chunk's images are written: {name: SHA-256}."""
        files.write_json(self._images(chunk), sums, indent=None)

    def load_images(self, chunk: int) -> dict[str, str]:
        """Read the names and SHA-256 of a chunk's images."""
        return files.read_json(self._images(chunk))

    @property
    def _decisions(self) -> Path:
        return self._folder / "decisions.json"

    def _scores(self, chunk: int) -> Path:
        return self._folder / f"scores-{chunk:03d}.npz"

    def _images(self, chunk: int) -> Path:
        return self._folder / f"images-{chunk:03d}.json"
