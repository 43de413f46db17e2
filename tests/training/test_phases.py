"""Phases: their order, how often each runs, and that a weight of zero removes one."""

import pytest

from training.phases import PhaseKind, build_phases

OPTIONS = {
    "has_path_length": True,
    "has_r1": ("rgb", "nir"),
    "g_reg_interval": 4,
    "d_reg_interval": 16,
}


def names(modalities=("rgb", "nir"), **changes):
    phases = build_phases(modalities, **{**OPTIONS, **changes})
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
    three = names(("rgb", "nir", "thermal"), has_r1=("thermal",))
    assert three[2:] == [
        ("Dmain", "rgb"),
        ("Dmain", "nir"),
        ("Dmain", "thermal"),
        ("Dreg", "thermal"),
    ]


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"has_path_length": False}, {("Greg", None)}),
        ({"has_r1": ("rgb",)}, {("Dreg", "nir")}),
        ({"has_r1": ()}, {("Dreg", "rgb"), ("Dreg", "nir")}),
    ],
)
def test_a_weight_of_zero_has_no_phase(changes, gone):
    assert names(**changes) == [name for name in names() if name not in gone]


def test_intervals_over_32_iterations():
    phases = build_phases(("rgb", "nir"), **OPTIONS)
    runs = {
        (phase.kind, phase.modality): [step for step in range(32) if phase.runs_at(step)]
        for phase in phases
    }
    assert runs[PhaseKind.G_MAIN, None] == list(range(32))
    assert runs[PhaseKind.D_MAIN, "nir"] == list(range(32))
    assert runs[PhaseKind.G_REG, None] == list(range(0, 32, 4))
    assert runs[PhaseKind.D_REG, "rgb"] == runs[PhaseKind.D_REG, "nir"] == [0, 16]
