"""Decisions against a plain loop over candidates, and their order."""

import dataclasses

import numpy as np
import pytest

from biometrics.faces import FaceReason
from identities.decisions import Candidate, PairScores
from identities.recognition_dataset import StepFiles
from identities.rules import FilterRules, Reason, Which
from identities.selection import Selection
from metrics.nearest import Nearest

WIDTH = 5
RULES = FilterRules(
    privacy=0.9, uniqueness=0.8, same_identity=0.5, too_similar=0.97, max_attempts=80
)


def vector_of(candidate):
    """A direction of the person's vector, and noise of the candidate."""
    centre = np.random.default_rng([candidate.identity, candidate.vector]).standard_normal(WIDTH)
    noise = np.random.default_rng([candidate.identity, candidate.attempt, 7])
    vector = centre + 0.8 * noise.standard_normal(WIDTH)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def scores_of(candidates):
    vectors = np.stack([vector_of(c) for c in candidates])
    draws = [np.random.default_rng([c.identity, c.attempt, 9]).random(3) for c in candidates]
    faces = [
        FaceReason.NO_FACE if d[1] < 0.1 else FaceReason.NOT_FRONTAL if d[1] < 0.2 else None
        for d in draws
    ]
    training = np.array([d[0] for d in draws], np.float32).round(6)
    return PairScores(
        vectors=vectors,
        training={"rgb": Nearest(training, np.zeros(len(candidates), np.int64))},
        agreement=np.array([d[2] for d in draws], np.float32),
        faces={"rgb": faces},
    )


def select(rules=RULES, identities=6, samples=4, step=16, tries=None, most=100000):
    """Run to the end; return the decisions of each step, and the selection."""
    selection = Selection(
        rules, identities=identities, samples=samples, tries=tries, step=step, most=most
    )
    steps = []
    while candidates := selection.next_step():
        assert candidates == sorted(candidates)
        assert len(candidates) <= step
        steps.append(selection.decide(candidates, scores_of(candidates)))
        assert sum(map(len, steps)) < 10000
    return steps, selection


def flat(steps):
    return [decision for step in steps for decision in step]


def in_order(steps):
    """Decisions in the order in which they were made."""
    begun = set()
    for part in steps:
        for identity in sorted({d.candidate.identity for d in part}):
            own = [d for d in part if d.candidate.identity == identity]
            vectors = [vector_of(d.candidate) for d in own]
            if identity not in begun:  # sorted() keeps the order of equal ones
                likeness = [round(sum(float(v @ w) for w in vectors), 4) for v in vectors]
                pairs = sorted(zip(likeness, own, strict=True), key=lambda pair: -pair[0])
                own = [d for _, d in pairs]
            yield from own
        begun |= {d.candidate.identity for d in part if d.sample is not None}


def plain_reasons(candidate, taken, rules):
    """Why a candidate goes: everything compared with everything, in float64."""
    scores = scores_of([candidate])
    vector = vector_of(candidate).astype(np.float64)

    def cosine(other):
        value = vector @ vector_of(other).astype(np.float64)
        return abs(value) if rules.is_absolute else value

    own = [c for c in taken if c.identity == candidate.identity]
    reasons = set()
    face = scores.faces["rgb"][0]
    if not own and face is not None or face is FaceReason.NO_FACE and rules.faces is Which.ALL:
        reasons.add(Reason.FACE)
    if scores.training["rgb"].scores[0] >= rules.privacy:
        reasons.add(Reason.TRAINING_PERSON)
    if rules.min_agreement is not None and scores.agreement[0] < rules.min_agreement:
        reasons.add(Reason.DISAGREEMENT)
    firsts = {}
    for c in taken:
        firsts.setdefault(c.identity, c)
    others = [c for c in taken if c.identity != candidate.identity]
    if rules.others is Which.FIRST:
        others = [c for c in others if firsts[c.identity] == c]
    if any(cosine(c) >= rules.uniqueness for c in others):
        reasons.add(Reason.OTHER_IDENTITY)
    return reasons | reasons_of_own(own, others, cosine, rules)


def reasons_of_own(own, others, cosine, rules):
    """Why a candidate is no sample of its person."""
    reasons = set()
    compared = own[:1] if rules.own is Which.FIRST else own
    if any(cosine(c) < rules.same_identity for c in compared):
        reasons.add(Reason.NOT_SAME_IDENTITY)
    nearest_own = max((cosine(c) for c in own), default=np.inf)
    if rules.is_nearest and any(cosine(c) >= nearest_own for c in others):
        reasons.add(Reason.NEARER_TO_OTHER)
    if rules.too_similar is not None and any(cosine(c) >= rules.too_similar for c in own):
        reasons.add(Reason.TOO_SIMILAR)
    return reasons


VARIANTS = {
    "ours": {},
    "all own": {"own": Which.ALL},
    "first of others": {"others": Which.FIRST},
    "first face": {"faces": Which.FIRST},
    "absolute": {"is_absolute": True},
    "agreement": {"min_agreement": 0.3},
    "any": {"too_similar": None},
    "nearer to others": {"is_nearest": False},
    "crowd": {"uniqueness": 0.99, "same_identity": 0.0},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_decisions_are_those_of_a_plain_loop(name):
    rules = dataclasses.replace(RULES, **VARIANTS[name])
    taken = []
    counts = dict.fromkeys(Reason, 0)
    for decision in in_order(select(rules)[0]):
        if decision.sample is None and not decision.reasons:
            continue  # nobody needed it
        assert set(decision.reasons) == plain_reasons(decision.candidate, taken, rules)
        if decision.sample is not None:
            own = [c for c in taken if c.identity == decision.candidate.identity]
            assert decision.sample == len(own)
            taken.append(decision.candidate)
        for reason in decision.reasons:
            counts[reason] += 1
    assert len(taken) == 6 * 4
    if name == "ours":
        assert counts[Reason.FACE] > 0
        assert counts[Reason.TRAINING_PERSON] > 0
        assert counts[Reason.NOT_SAME_IDENTITY] > 0
    if name == "crowd":
        assert counts[Reason.NEARER_TO_OTHER] > 0


def test_scores_are_recorded():
    taken = {}
    for decision in in_order(select()[0]):
        vector = vector_of(decision.candidate)
        own = taken.setdefault(decision.candidate.identity, [])
        if own and decision.sample is not None:
            assert decision.own == pytest.approx(float(own[0] @ vector), abs=2e-6)
            assert decision.own_nearest == pytest.approx(
                max(float(o @ vector) for o in own), abs=2e-6
            )
        others = {k: v for k, v in taken.items() if v and k != decision.candidate.identity}
        if decision.sample is not None and others:
            best = max(others, key=lambda k: max(float(o @ vector) for o in others[k]))
            assert decision.other_identity == best
            assert decision.other == pytest.approx(
                max(float(o @ vector) for o in others[best]), abs=2e-6
            )
        if decision.sample is not None:
            own.append(vector)


def test_continuing_from_decisions_comes_to_the_same_end():
    whole, _ = select()
    selection = Selection(RULES, identities=6, samples=4, tries=None, step=16, most=100000)
    again = []
    while candidates := selection.next_step():
        scores = scores_of(candidates)
        if len(again) < 2:  # decided before an interruption
            again.append(whole[len(again)])
            selection.repeat(again[-1], scores.vectors)
        else:
            again.append(selection.decide(candidates, scores))
    assert len(again) > 3
    assert again == whole


def test_processes_that_do_not_decide_know_the_next_step():
    deciding = Selection(RULES, identities=6, samples=4, tries=None, step=16, most=100000)
    following = Selection(RULES, identities=6, samples=4, tries=None, step=16, most=100000)
    while candidates := deciding.next_step():
        assert following.next_step() == candidates
        following.repeat(deciding.decide(candidates, scores_of(candidates)), None)
        assert following.counts() == deciding.counts()
        assert following.accepted == deciding.accepted
    assert following.next_step() == []


def test_attempts_number_candidates_without_gaps():
    steps, selection = select()
    decisions = flat(steps)
    for identity, (samples, attempts) in enumerate(selection.counts()):
        own = [d.candidate.attempt for d in decisions if d.candidate.identity == identity]
        assert own == list(range(attempts))
        assert samples == 4


def test_the_first_sample_is_the_most_usual_one():
    """Of a new person's candidates that pass, the one most like all of them stands for it."""
    rules = dataclasses.replace(RULES, faces=Which.FIRST, vector_attempts=8)
    steps, _ = select(rules, identities=5, samples=2, step=40)
    decisions = flat(steps)
    for identity in range(5):
        own = [d for d in decisions[:40] if d.candidate.identity == identity]
        assert len(own) == 8
        total = sum(vector_of(d.candidate) for d in own)
        barred = {Reason.FACE, Reason.TRAINING_PERSON, Reason.OTHER_IDENTITY}
        passing = [d for d in own if not barred & set(d.reasons)]
        first = next(d for d in own if d.sample == 0)
        best = max(passing, key=lambda d: float(vector_of(d.candidate) @ total))
        assert vector_of(first.candidate) @ total == pytest.approx(
            float(vector_of(best.candidate) @ total), abs=1e-4
        )


def test_a_vector_without_a_first_sample_is_replaced():
    rules = dataclasses.replace(RULES, privacy=0.15, vector_attempts=2, max_attempts=400)
    steps, _ = select(rules, identities=3, samples=1)
    decisions = flat(steps)
    vectors = {}
    for decision in decisions:
        vectors.setdefault(decision.candidate.identity, []).append(decision.candidate.vector)
    assert max(map(max, vectors.values())) > 0
    for numbers in vectors.values():
        assert numbers == sorted(numbers)
        assert all(numbers.count(n) <= 2 for n in numbers)


def test_a_person_of_a_file_has_one_vector():
    rules = dataclasses.replace(RULES, privacy=-1.0, vector_attempts=3)
    steps, selection = select(rules, identities=2, tries=1)
    decisions = flat(steps)
    assert selection.counts() == [(0, 3), (0, 3)]
    assert {d.candidate.vector for d in decisions} == {0}


@pytest.mark.parametrize(("step", "limit"), [(16, 60), (7, 13), (1000, 5)])
def test_attempts_are_bounded_where_nothing_is_ever_taken(step, limit):
    rules = dataclasses.replace(RULES, privacy=-1.0, max_attempts=limit)
    steps, selection = select(rules, step=step)
    decisions = flat(steps)
    assert selection.accepted == 0
    assert selection.counts() == [(0, limit)] * 6
    assert len(decisions) == 6 * limit
    assert all(Reason.TRAINING_PERSON in d.reasons for d in decisions)


def test_attempts_are_bounded_where_a_second_sample_is_never_taken():
    rules = dataclasses.replace(RULES, same_identity=0.9999, too_similar=1.0, max_attempts=40)
    steps, selection = select(rules)
    decisions = flat(steps)
    assert all(samples <= 1 and attempts <= 40 for samples, attempts in selection.counts())
    assert len(decisions) <= 240


def test_candidates_are_bounded_in_all():
    rules = dataclasses.replace(RULES, privacy=-1.0)
    steps, _ = select(rules, most=50)
    decisions = flat(steps)
    assert len(decisions) == 50


def test_steps_on_disk_come_back(tmp_path):
    selection = Selection(RULES, identities=6, samples=4, tries=None, step=16, most=1000)
    step = StepFiles(tmp_path, 3)
    candidates = selection.next_step()
    scores = scores_of(candidates)
    step.save_scores(0, scores_of(candidates[:10]))
    step.save_scores(1, scores_of(candidates[10:]))
    loaded = step.load_scores(2)
    np.testing.assert_array_equal(loaded.vectors, scores.vectors)
    np.testing.assert_array_equal(loaded.agreement, scores.agreement)
    np.testing.assert_array_equal(loaded.training["rgb"].scores, scores.training["rgb"].scores)
    assert list(loaded.faces["rgb"]) == list(scores.faces["rgb"])
    decisions = selection.decide(candidates, loaded)
    step.save_decisions(decisions)
    assert step.scores(0).is_file()
    assert not step.images(0).exists()
    assert step.load_decisions() == decisions
    assert isinstance(decisions[0].candidate, Candidate)
