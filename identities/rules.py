"""What a sample of a new identity must satisfy: the published rules, and stricter ones of ours."""

import math
from dataclasses import dataclass
from enum import StrEnum


class Preset(StrEnum):
    """Names of the sets of rules."""

    STRICT = "strict"
    VARIED = "varied"
    PUBLISHED = "published"


class Which(StrEnum):
    """Of several images: the first one only, or all of them."""

    FIRST = "first"
    ALL = "all"


class Reason(StrEnum):
    """Why a sample is rejected; the order is that in which reasons are counted."""

    UNREADABLE = "unreadable"
    FACE = "face"
    TRAINING_PERSON = "training_person"
    TRAINING_PERSON_NIR = "training_person_nir"
    OTHER_IDENTITY = "other_identity"
    NEARER_TO_OTHER = "nearer_to_other"
    DISAGREEMENT = "disagreement"
    NOT_SAME_IDENTITY = "not_same_identity"
    TOO_SIMILAR = "too_similar"


@dataclass(frozen=True, kw_only=True)
class FilterRules:
    """Limits and what they are held against. A score at a limit counts as above it."""

    privacy: float  # a sample whose cosine to a training image is this or more shows that identity
    # A sample whose cosine to another new identity is this or more shows that one.
    uniqueness: float
    # A sample of an identity has at least this cosine to that identity's others.
    same_identity: float
    too_similar: float | None  # and less than this, so that samples differ; None takes any
    # Cosine between the RGB and the NIR image of a pair; None takes any.
    min_agreement: float | None = None
    training: Which = Which.ALL  # the first image of each training identity is compared, or all
    own: Which = Which.FIRST  # a sample is compared with the first one of its identity, or with all
    others: Which = Which.ALL  # other new identities are known by their first sample, or by all
    # A sample must be nearer to some sample of its identity than to all samples of others that it
    # is compared with.
    is_nearest: bool = True
    faces: Which = Which.ALL  # which samples of an identity must show a face
    check_nir: bool = False  # the NIR image too must show a face and no training identity
    privacy_nir: float | None = None  # instead of `privacy` for NIR images; None is the same
    is_absolute: bool = False  # cosines lose their sign
    max_attempts: int = 2500  # maximum number of candidates per identity
    # Candidates per feature vector before the first is accepted: of those that pass, the one that
    # is most like the others. Where none does, the vector is replaced.
    vector_attempts: int = 8

    def __post_init__(self) -> None:
        names = ("privacy", "uniqueness", "same_identity", "too_similar", "min_agreement")
        for name in (*names, "privacy_nir"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and -1 <= value <= 1.01):
                raise ValueError(f"{name} must be a cosine, from -1 to 1, got {value}")
        if self.too_similar is not None and self.too_similar <= self.same_identity:
            raise ValueError(
                f"too_similar ({self.too_similar}) must be above same_identity "
                f"({self.same_identity}), or no second sample of an identity can be accepted"
            )


# Mean 0.776 and deviation 0.077 of mated scores of one recogniser on one data set.
PUBLISHED_SAME_IDENTITY = 0.622
PUBLISHED_TOO_SIMILAR = 0.853


def published_rules(
    same_identity: float = PUBLISHED_SAME_IDENTITY, too_similar: float = PUBLISHED_TOO_SIMILAR
) -> FilterRules:
    """Return the rules of ArcBiFaceGAN's generate_recognition_data.py, by default its constants."""
    return FilterRules(
        privacy=same_identity,
        uniqueness=same_identity,
        same_identity=same_identity,
        too_similar=too_similar,
        training=Which.FIRST,
        own=Which.FIRST,
        others=Which.FIRST,
        is_nearest=False,
        faces=Which.FIRST,
        is_absolute=True,
        max_attempts=2500,
        vector_attempts=1,
    )


def strict_rules(privacy: float, same_identity: float, too_similar: float | None) -> FilterRules:
    """Return our rules: every training image, every sample of the others, every face, signs."""
    return FilterRules(
        privacy=privacy, uniqueness=privacy, same_identity=same_identity, too_similar=too_similar
    )
