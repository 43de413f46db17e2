"""Phases: their order, how often each runs, and that a weight of zero removes one."""

import pytest

from tests.helpers.configs import small_loss_config
from training.step import PhaseKind, build_phases


def names(modalities=("rgb", "nir"), **changes):
    phases = build_phases(modalities, small_loss_config(**changes))
    return [(phase.kind.value, phase.modality) for phase in phases]


def test_order():
    assert names() == [
        ("Gmain", None),
        ("Greg", None),
        ("Dmain", "rgb"),
        ("Dmain", "nir"),
        ("Dreg", "rgb"),
        ("Dreg", "nir"),
    ]


def test_one_and_three_modalities():
    assert names(("rgb",)) == [("Gmain", None), ("Greg", None), ("Dmain", "rgb"), ("Dreg", "rgb")]
    three = names(("rgb", "nir", "thermal"), gammas={"rgb": 0, "nir": 0, "thermal": 1})
    assert three[2:] == [
        ("Dmain", "rgb"),
        ("Dmain", "nir"),
        ("Dmain", "thermal"),
        ("Dreg", "thermal"),
    ]


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"pl_weight": 0.0}, {("Greg", None)}),
        ({"gammas": {"rgb": 1.0, "nir": 0.0}}, {("Dreg", "nir")}),
        ({"gammas": {"rgb": 0.0, "nir": 0.0}}, {("Dreg", "rgb"), ("Dreg", "nir")}),
    ],
)
def test_a_weight_of_zero_has_no_phase(changes, gone):
    assert names(**changes) == [name for name in names() if name not in gone]


def test_intervals_over_32_iterations():
    runs = {
        (phase.kind, phase.modality): [step for step in range(32) if phase.runs_at(step)]
        for phase in build_phases(("rgb", "nir"), small_loss_config())
    }
    assert runs[PhaseKind.G_MAIN, None] == list(range(32))
    assert runs[PhaseKind.D_MAIN, "nir"] == list(range(32))
    assert runs[PhaseKind.G_REG, None] == list(range(0, 32, 4))
    assert runs[PhaseKind.D_REG, "rgb"] == runs[PhaseKind.D_REG, "nir"] == [0, 16]
