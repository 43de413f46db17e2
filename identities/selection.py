"""Decides which candidates become samples, in their order, from scores alone.

Work goes in steps: the next step's candidates are a function of all decisions so far, so that any
number of processes, and a continued run, come to the same samples.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from biometrics.faces import FaceReason
from identities.decisions import (
    SCORE_DIGITS,
    Candidate,
    Decision,
    PairScores,
    judge_alone,
)
from identities.rules import FilterRules, Reason, Which
from metrics.nearest import References

_LOWEST_RATE = 0.1  # of accepted candidates that is expected at least


@dataclass
class _Identity:
    """Where a new identity stands."""

    vector: int = 0  # number of the present feature vector
    attempts: int = 0  # candidates so far
    since_vector: int = 0  # those of the present vector that were judged
    samples: int = 0  # number of accepted ones
    vectors: list[np.ndarray] = field(default_factory=list)  # embeddings of the accepted ones


class Selection:
    """All new identities, and what they still need.

    Args:
        rules: of acceptance.
        identities: number of new identities.
        samples: per identity.
        tries: feature vectors an identity can have; None for any number.
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
        self._identities = [_Identity() for _ in range(identities)]
        self._known: References | None = None

    @property
    def accepted(self) -> int:
        """Number of samples so far."""
        return sum(identity.samples for identity in self._identities)

    def counts(self) -> list[tuple[int, int]]:
        """Return the samples and the attempts of each identity."""
        return [(identity.samples, identity.attempts) for identity in self._identities]

    def next_step(self) -> list[Candidate]:
        """Return the candidates to generate now, sorted; none where all are done or given up."""
        room = min(self._step, self._most - sum(identity.attempts for identity in self._identities))
        candidates: list[Candidate] = []
        for number, identity in enumerate(self._identities):
            count = min(self._wanted(identity), room - len(candidates))
            first = identity.attempts
            candidates += [
                Candidate(number, attempt, identity.vector)
                for attempt in range(first, first + count)
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

        They are judged as they come, but of a new identity those most like its others first: the
        first sample stands for the identity.
        """
        order: list[int] = []
        for identity, group in itertools.groupby(
            range(len(candidates)), key=lambda index: candidates[index].identity
        ):
            rows = list(group)
            if self._identities[identity].samples == 0:
                total = vectors[rows].astype(np.float64).sum(axis=0)
                likeness = _cosines(vectors[rows], total)
                rows = [rows[row] for row in np.argsort(-likeness, kind="stable")]
            order += rows
        return order

    def _wanted(self, identity: _Identity) -> int:
        left = self._rules.max_attempts - identity.attempts
        if self._tries is not None and identity.vector >= self._tries:
            return 0
        if identity.samples == 0:
            return min(left, self._rules.vector_attempts - identity.since_vector)
        need = self._samples - identity.samples
        rate = max(identity.samples / max(identity.since_vector, 1), _LOWEST_RATE)
        return max(min(left, math.ceil(need / rate)), 0)

    def _judge(
        self, index: int, candidate: Candidate, scores: PairScores, others: "_Others"
    ) -> Decision:
        identity, rules = self._identities[candidate.identity], self._rules
        if identity.samples >= self._samples or identity.vector != candidate.vector:
            return Decision(candidate=candidate)
        alone = judge_alone(scores, index, rules, self._allowed_faces(identity))
        reasons = list(alone.reasons)
        other, other_identity = others.nearest(index) or (None, None)
        if other is not None and other >= rules.uniqueness:
            reasons.append(Reason.OTHER_IDENTITY)
        own = own_nearest = None
        if identity.vectors:
            cosines = _cosines(np.stack(identity.vectors), scores.vectors[index])
            cosines = np.abs(cosines) if rules.is_absolute else cosines
            own, own_nearest = float(cosines[0]), float(cosines.max())
            lowest = own if rules.own is Which.FIRST else float(cosines.min())
            if lowest < rules.same_identity:
                reasons.append(Reason.NOT_SAME_IDENTITY)
            if rules.too_similar is not None and own_nearest >= rules.too_similar:
                reasons.append(Reason.TOO_SIMILAR)
            if rules.is_nearest and other is not None and other >= own_nearest:
                reasons.append(Reason.NEARER_TO_OTHER)
        return replace(
            alone,
            candidate=candidate,
            sample=None if reasons else identity.samples,
            reasons=tuple(reason for reason in Reason if reason in reasons),
            own=own,
            own_nearest=own_nearest,
            other=other,
            other_identity=other_identity,
        )

    def _allowed_faces(self, identity: "_Identity") -> tuple[FaceReason, ...]:
        """Return what may be wrong with a face; only an identity's first one must be frontal."""
        if identity.samples == 0:
            return ()
        is_first_alone = self._rules.faces is Which.FIRST
        return tuple(FaceReason) if is_first_alone else (FaceReason.NOT_FRONTAL,)

    def _count(self, decision: Decision) -> None:
        """Count a decision, and give an identity another vector where the present one failed."""
        identity = self._identities[decision.candidate.identity]
        identity.attempts += 1
        if decision.is_surplus:
            return
        identity.since_vector += 1
        identity.samples += decision.sample is not None
        if identity.samples == 0 and identity.since_vector >= self._rules.vector_attempts:
            identity.vector += 1
            identity.since_vector = 0

    def _enrol(self, candidate: Candidate, vector: np.ndarray) -> None:
        identity = self._identities[candidate.identity]
        identity.vectors.append(vector)
        if not self._is_known(len(identity.vectors) - 1):
            return
        group = np.array([candidate.identity])
        if self._known is None:
            self._known = References(vector[None], group)
        else:
            self._known.add(vector[None], group)

    def _is_known(self, sample: int) -> bool:
        return self._rules.others is Which.ALL or sample == 0


class _Others:
    """The samples of other new identities that the candidates of a step are compared with.

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
        rows = torch.from_numpy(vectors)
        within = (rows @ rows.T).numpy()
        self._within = np.abs(within) if is_absolute else within
        self._accepted: list[int] = []

    def accept(self, index: int) -> None:
        """From here on, compare with this candidate too."""
        self._accepted.append(index)

    def nearest(self, index: int) -> tuple[float, int] | None:
        """Return the highest cosine to another new identity, and who that is."""
        best = self._before[index]
        rows = [row for row in self._accepted if self._groups[row] != self._groups[index]]
        if not rows:
            return best
        row = rows[int(self._within[index, rows].argmax())]
        score = _rounded(self._within[index, row])
        return (score, int(self._groups[row])) if best is None or score > best[0] else best


def _rounded(score: float) -> float:
    return round(float(score), SCORE_DIGITS)


def _cosines(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return [N] float64 rounded products of [N, E] and [E].

    Summed in float64 without BLAS, some of which warn of invalid values in small products of
    finite ones.
    """
    return np.einsum("ne,e->n", rows, vector, dtype=np.float64).round(SCORE_DIGITS)
