"""Decides which candidates become samples, in their order, from scores alone.

Work goes in steps: the next step's candidates are a function of all decisions so far, so that any
number of processes, and a continued run, come to the same samples.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from biometrics.faces import FaceReason
from identities.candidates import Candidate
from identities.filtering import SCORE_DIGITS, PairScores, reasons_alone
from identities.rules import FilterRules, Reason, Which
from metrics.nearest import References

_LOWEST_RATE = 0.1  # of accepted candidates that is expected at least


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What became of a candidate.

    Attributes:
        candidate: which.
        sample: its number among the person's samples; None where it was not taken.
        reasons: why it was not taken; empty for a surplus one, which nobody needed.
        face: what a face check found wrong.
        own: cosine to the person's first sample; None for the first.
        own_nearest: highest cosine to a sample of the person.
        other: highest cosine to another new person; None where there was none.
        other_identity: that person.
    """

    candidate: Candidate
    sample: int | None = None
    reasons: tuple[Reason, ...] = ()
    face: FaceReason | None = None
    own: float | None = None
    own_nearest: float | None = None
    other: float | None = None
    other_identity: int | None = None


@dataclass
class _Person:
    """Where a new person stands.

    Attributes:
        vector: number of the present feature vector.
        attempts: candidates so far.
        since_vector: those of the present vector that were judged.
        samples: number of taken ones.
        vectors: embeddings of the taken ones.
    """

    vector: int = 0
    attempts: int = 0
    since_vector: int = 0
    samples: int = 0
    vectors: list[np.ndarray] = field(default_factory=list)


class Selection:
    """All new people, and what they still need.

    Args:
        rules: of acceptance.
        identities: how many people.
        samples: how many samples each.
        tries: feature vectors a person can have; None for any number.
        step: candidates decided together.
        most: candidates in all.
    """

    def __init__(
        self,
        rules: FilterRules,
        *,
        identities: int,
        samples: int,
        tries: int | None,
        step: int,
        most: int,
    ) -> None:
        self._rules, self._samples, self._tries = rules, samples, tries
        self._step, self._most = step, most
        self._people = [_Person() for _ in range(identities)]
        self._known: References | None = None

    @property
    def accepted(self) -> int:
        """Number of samples so far."""
        return sum(person.samples for person in self._people)

    def counts(self) -> list[tuple[int, int]]:
        """Return the samples and the attempts of each person."""
        return [(person.samples, person.attempts) for person in self._people]

    def next_step(self) -> list[Candidate]:
        """Return the candidates to draw now, sorted; none where everybody is done or given up."""
        room = min(self._step, self._most - sum(person.attempts for person in self._people))
        candidates: list[Candidate] = []
        for number, person in enumerate(self._people):
            count = min(self._wanted(person), room - len(candidates))
            first = person.attempts
            candidates += [
                Candidate(number, attempt, person.vector) for attempt in range(first, first + count)
            ]
            if len(candidates) >= room:
                break
        return candidates

    def decide(self, candidates: Sequence[Candidate], scores: PairScores) -> list[Decision]:
        """Judge a step's candidates one after the other, and remember the outcome.

        Args:
            candidates: what `next_step` returned.
            scores: of these.
        Returns: a decision each, in the order of the candidates.
        """
        others = _Others(
            self._known, candidates, scores.vectors, is_absolute=self._rules.is_absolute
        )
        decisions: dict[int, Decision] = {}
        for index in self._order(candidates, scores.vectors):
            candidate = candidates[index]
            decision = self._judge(index, candidate, scores, others)
            self._count(decision)
            if decision.sample is not None:
                self._enrol(candidate, scores.vectors[index])
                if self._is_known(decision.sample):
                    others.accept(index)
            decisions[index] = decision
        return [decisions[index] for index in range(len(candidates))]

    def repeat(self, decisions: Sequence[Decision], vectors: np.ndarray | None) -> None:
        """Remember decisions that were made before.

        Args:
            decisions: of the next step.
            vectors: [N, E] of its candidates; None where this process will not decide.
        """
        order: Sequence[int] = range(len(decisions))
        if vectors is not None:
            order = self._order([decision.candidate for decision in decisions], vectors)
        for index in order:
            decision = decisions[index]
            self._count(decision)
            if decision.sample is not None and vectors is not None:
                self._enrol(decision.candidate, vectors[index])

    def _order(self, candidates: Sequence[Candidate], vectors: np.ndarray) -> list[int]:
        """Return in which order candidates are judged.

        They are judged as they come, but of a new person those most like its others first: the
        first sample stands for the person.
        """
        order: list[int] = []
        for identity, group in itertools.groupby(
            range(len(candidates)), key=lambda index: candidates[index].identity
        ):
            rows = list(group)
            if self._people[identity].samples == 0:
                total = vectors[rows].astype(np.float64).sum(axis=0)
                likeness = (vectors[rows] @ total).round(SCORE_DIGITS)
                rows = [rows[place] for place in np.argsort(-likeness, kind="stable")]
            order += rows
        return order

    def _wanted(self, person: _Person) -> int:
        left = self._rules.max_attempts - person.attempts
        if self._tries is not None and person.vector >= self._tries:
            return 0
        if person.samples == 0:
            return min(left, self._rules.vector_attempts - person.since_vector)
        need = self._samples - person.samples
        rate = max(person.samples / max(person.since_vector, 1), _LOWEST_RATE)
        return max(min(left, math.ceil(need / rate)), 0)

    def _judge(
        self, index: int, candidate: Candidate, scores: PairScores, others: "_Others"
    ) -> Decision:
        person, rules = self._people[candidate.identity], self._rules
        if person.samples >= self._samples or person.vector != candidate.vector:
            return Decision(candidate=candidate)
        face = self._face(scores, index, is_first=person.samples == 0)
        reasons = [Reason.FACE] if face is not None else []
        reasons += reasons_alone(scores, index, rules)
        other, other_identity = others.nearest(index) or (None, None)
        if other is not None and other >= rules.uniqueness:
            reasons.append(Reason.OTHER_IDENTITY)
        own = own_nearest = None
        if person.vectors:
            cosines = self._cosines(np.stack(person.vectors), scores.vectors[index])
            own, own_nearest = float(cosines[0]), float(cosines.max())
            lowest = own if rules.own is Which.FIRST else float(cosines.min())
            if lowest < rules.same_identity:
                reasons.append(Reason.NOT_SAME_IDENTITY)
            if rules.too_similar is not None and own_nearest >= rules.too_similar:
                reasons.append(Reason.TOO_SIMILAR)
            if rules.is_nearest and other is not None and other >= own_nearest:
                reasons.append(Reason.NEARER_TO_OTHER)
        order = list(Reason)
        return Decision(
            candidate=candidate,
            sample=None if reasons else person.samples,
            reasons=tuple(sorted(reasons, key=order.index)),
            face=face,
            own=own,
            own_nearest=own_nearest,
            other=other,
            other_identity=other_identity,
        )

    def _face(self, scores: PairScores, index: int, *, is_first: bool) -> FaceReason | None:
        """Return what is wrong with a face; only the first sample of a person must be frontal."""
        if self._rules.faces is Which.FIRST and not is_first:
            return None
        found = [faces[index] for faces in scores.faces.values()]
        allowed = (None,) if is_first else (None, FaceReason.NOT_FRONTAL)
        return next((reason for reason in found if reason not in allowed), None)

    def _count(self, decision: Decision) -> None:
        """Count a decision, and give a person another vector where the present one failed."""
        person = self._people[decision.candidate.identity]
        person.attempts += 1
        if decision.sample is None and not decision.reasons:
            return
        person.since_vector += 1
        person.samples += decision.sample is not None
        if person.samples == 0 and person.since_vector >= self._rules.vector_attempts:
            person.vector += 1
            person.since_vector = 0

    def _enrol(self, candidate: Candidate, vector: np.ndarray) -> None:
        person = self._people[candidate.identity]
        person.vectors.append(vector)
        if not self._is_known(len(person.vectors) - 1):
            return
        group = np.array([candidate.identity])
        if self._known is None:
            self._known = References(vector[None], group)
        else:
            self._known.add(vector[None], group)

    def _is_known(self, sample: int) -> bool:
        return self._rules.others is Which.ALL or sample == 0

    def _cosines(self, rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
        cosines = (rows @ vector).astype(np.float64).round(SCORE_DIGITS)
        return np.abs(cosines) if self._rules.is_absolute else cosines


class _Others:
    """The samples of other new people that the candidates of a step are compared with.

    Args:
        known: samples of earlier steps.
        candidates: of this step.
        vectors: [N, E] of them.
        is_absolute: cosines lose their sign.
    """

    def __init__(
        self,
        known: References | None,
        candidates: Sequence[Candidate],
        vectors: np.ndarray,
        *,
        is_absolute: bool,
    ) -> None:
        self._groups = np.array([candidate.identity for candidate in candidates])
        self._before: list[tuple[float, int] | None] = [None] * len(candidates)
        if known is not None:
            found = known.nearest(vectors, groups=self._groups, is_absolute=is_absolute)
            self._before = [
                (_rounded(score), known.group(int(row))) if row >= 0 else None
                for score, row in zip(found.scores, found.indices, strict=True)
            ]
        within = vectors @ vectors.T
        self._within = np.abs(within) if is_absolute else within
        self._accepted: list[int] = []

    def accept(self, index: int) -> None:
        """From here on, compare with this candidate too."""
        self._accepted.append(index)

    def nearest(self, index: int) -> tuple[float, int] | None:
        """Return the highest cosine to another new person, and who that is."""
        best = self._before[index]
        rows = [row for row in self._accepted if self._groups[row] != self._groups[index]]
        if not rows:
            return best
        row = rows[int(self._within[index, rows].argmax())]
        score = _rounded(self._within[index, row])
        return (score, int(self._groups[row])) if best is None or score > best[0] else best


def _rounded(score: float) -> float:
    return round(float(score), SCORE_DIGITS)
