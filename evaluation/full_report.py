"""The report: all topics of one set of samples on one page."""

from collections.abc import Sequence
from dataclasses import dataclass

from data.modalities import MODALITIES
from data.sample_index import SampleIndex
from dnnlib import files
from dnnlib.options import Progress
from evaluation import masks, quality, reconstruction
from evaluation.faces import Faces, given_thresholds, hash_inputs, open_faces
from evaluation.identities import IdentityTopic, open_diversity, read_attributes
from evaluation.masks import MaskTopic
from evaluation.names import parse_metrics
from evaluation.options import QualityOptions, ReportOptions
from evaluation.pictures import sample_panels
from evaluation.privacy import PrivacyTopic
from evaluation.quality import QualityTopic
from evaluation.reconstruction import ReconstructionTopic
from evaluation.report import Section
from evaluation.topic import ReportJob, Topic, describe_sets, open_sets
from evaluation.verification import VerificationTopic
from metrics import NotMeasuredError
from networks.sampling import load_sampler
from torch_utils.devices import resolve_repeatable

# Keys of report.json, too.
_TITLES = {"samples": "Samples", "data": "Training data", "heldout": "Held-out identities"}
_SAMPLED = 2000
_NO_RECOGNISER = "no --rec-model was given"


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleTopic(Topic):
    """The data sets, to be seen.

    Attributes:
        sets: by role.
    """

    key = "samples"
    title = "Samples"

    sets: dict[str, SampleIndex]

    def measure(self, progress: Progress) -> Section:
        """Return grids of evenly spread samples."""
        return Section(
            key=self.key,
            title=self.title,
            lead="The same position in each grid is the same sample: RGB, NIR and masks.",
            blocks=tuple(sample_panels(s, _TITLES[role]) for role, s in self.sets.items()),
            data={
                role: {"name": s.name, "samples": len(s), "people": s.num_identities}
                for role, s in self.sets.items()
            },
            skipped=tuple(
                (f"masks of {_TITLES[role].lower()}", "the data set holds none")
                for role in ("samples", "data")
                if not self.sets[role].num_masks
            ),
        )


def prepare(options: ReportOptions) -> ReportJob:
    """Open everything that options name, before the first image is embedded.

    What the data do not allow is skipped and named on the page.

    Raises: ValueError or FileNotFoundError naming the option or file that is wrong.
    """
    device = resolve_repeatable(options.device)
    sets = open_sets({role: getattr(options, role) for role in _TITLES})
    faces = open_faces([options.rec_model, options.audit_model], device)

    def hashes() -> dict[str, str]:
        found = hash_inputs(sets, faces)
        if options.network is not None:
            found[f"network {options.network.name}"] = files.sha256_file(options.network)
        return found | reconstruction.hash_errors(options.projected or ())

    return ReportJob(
        name="report",
        title="Evaluation report",
        subtitle=f"Samples: {sets['samples'].name}. Training data: {sets['data'].name}.",
        topics=[
            SampleTopic(sets=sets),
            _quality(options, sets["samples"], device),
            masks.open_topic(*options.masks, seed=options.seed)
            if options.masks
            else MaskTopic.skip("no --masks TRUE FOUND were given"),
            *_face_topics(options, sets, faces, device),
            _reconstruction(options),
        ],
        plan=describe_sets(sets),
        options=options,
        fails_on_alarm=options.fail_on == "copies",
        inputs=hashes,
    )


def _quality(options: ReportOptions, samples: SampleIndex, device: str) -> Topic | Section:
    if options.extractor is None:
        if options.network is not None:
            load_sampler(options.network, data=options.data)  # a wrong path is told at once
        return QualityTopic.skip("no --extractor was given; --extractor=standin needs no file")
    count = len(samples) if options.network is None else _SAMPLED
    suffixes = [modality.suffix for modality in MODALITIES if modality.name in samples.modalities]
    kinds = (f"fid{count}_full", f"pr{count}3_full", f"dc{count}5_full", f"vendi{count}")
    default = ",".join(f"{kind}{suffix}" for kind in kinds for suffix in suffixes)
    quality_options = QualityOptions(
        metrics=options.metrics or parse_metrics(default),
        network=options.network,
        images=options.samples if options.network is None else None,
        data=options.data,
        heldout=options.heldout,
        extractor=options.extractor,
        outdir=options.outdir,
        seed=options.seed,
    )
    try:
        return quality.open_topic(quality_options, device)
    except NotMeasuredError as error:
        if options.metrics is not None:
            raise  # the user asked for these
        return QualityTopic.skip(str(error))


def _reconstruction(options: ReportOptions) -> Topic | Section:
    if options.projected is None:
        return ReconstructionTopic.skip("no --projected TRAINING HELDOUT were given")
    training, heldout = options.projected
    return reconstruction.open_topic([training], [heldout], seed=options.seed)


def _face_topics(
    options: ReportOptions, sets: dict[str, SampleIndex], faces: Sequence[Faces], device: str
) -> list[Topic | Section]:
    """Return verification, identities and privacy."""
    real = "heldout" if "heldout" in sets else "data"
    thresholds = given_thresholds(options, faces)
    compared = {_TITLES[role]: sets[role] for role in ("samples", "data")}
    identities = IdentityTopic(
        sets=compared,
        real=sets[real],
        faces=faces[0] if faces else None,
        thresholds=thresholds,
        extractor=open_diversity(options.extractor, device),
        seed=options.seed,
        attributes={name: read_attributes(samples) for name, samples in compared.items()},
    )
    if not faces:
        verification = VerificationTopic.skip(_NO_RECOGNISER)
        return [verification, identities, PrivacyTopic.skip(_NO_RECOGNISER)]
    return [
        VerificationTopic(
            sets={_TITLES[role]: sets[role] for role in ("samples", real)},
            faces=faces[-1],  # who filtered the samples cannot judge how well they are told apart
            seed=options.seed,
        ),
        identities,
        PrivacyTopic(
            samples=sets["samples"],
            training=sets["data"],
            heldout=sets.get("heldout"),
            faces=faces,
            thresholds=thresholds,
            seed=options.seed,
        ),
    ]
