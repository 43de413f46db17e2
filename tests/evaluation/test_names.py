"""Names of metrics, and what a result may be called."""

import pytest

from data.modalities import JOINT
from evaluation.names import Kind, Role, parse_metric, parse_metrics

PUBLISHED = {
    "fid50k_full": (Kind.FID, 50_000, True, 0),
    "fid10k_full": (Kind.FID, 10_000, True, 0),
    "kid50k_full": (Kind.KID, 50_000, True, 0),
    "pr50k3_full": (Kind.PR, 50_000, True, 3),
    "is50k": (Kind.IS, 50_000, False, 0),
    "ppl2_wend": (Kind.PPL, 50_000, False, 0),
    "fid50k": (Kind.FID, 50_000, False, 0),
    "kid50k": (Kind.KID, 50_000, False, 0),
    "pr50k3": (Kind.PR, 50_000, False, 3),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(("suffix", "view"), [("", "rgb"), ("_NIR", "nir")])
def test_published_names(name, suffix, view):
    metric = parse_metric(name + suffix)
    assert (metric.kind, metric.count, metric.is_full, metric.k) == PUBLISHED[name]
    assert (metric.view, metric.modalities) == (view, (view,))


@pytest.mark.parametrize(
    ("name", "space", "is_end", "is_cropped"),
    [
        ("ppl2_wend", "w", True, False),
        ("ppl_zfull", "z", False, True),
        ("ppl_wfull", "w", False, True),
        ("ppl_zend", "z", True, True),
        ("ppl_wend", "w", True, True),
    ],
)
def test_path_lengths(name, space, is_end, is_cropped):
    metric = parse_metric(name)
    assert (metric.space, metric.is_end, metric.is_cropped) == (space, is_end, is_cropped)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("fid2k_full", 2000),
        ("fid500_full", 500),
        ("kid1k_full_NIR", 1000),
        ("ppl2_wend_2k", 2000),
        ("vendi128_joint", 128),
    ],
)
def test_any_count(name, count):
    assert parse_metric(name).count == count


def test_neighbours_are_the_last_digit():
    metric = parse_metric("dc5005_full")
    assert (metric.count, metric.k) == (500, 5)


def test_joint_takes_all_modalities():
    metric = parse_metric("fid2k_full_joint")
    assert (metric.view, metric.modalities) == (JOINT, ("rgb", "nir"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fid", "metric 'fid' is not known"),
        ("fid50k_ful", r"did you mean 'fid50k_full'\?"),
        ("fid0k_full", "not known"),
        ("pr50k_full_VIS", "not known"),
        ("is50k_joint", "IS is of one modality"),
        ("ppl2_wend_joint", "PPL is of one modality"),
        ("fid2k_full\n", "not known"),
        ("", "not known"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse_metric(name)


def test_lists():
    assert parse_metrics("none") == ()
    assert [m.name for m in parse_metrics("fid2k_full, is2k")] == ["fid2k_full", "is2k"]
    with pytest.raises(ValueError, match="'is2k' is given twice"):
        parse_metrics("is2k,is2k")


@pytest.mark.parametrize(
    ("name", "label", "result"),
    [
        ("fid2k_full", "FD(net)", "fd2k_full.net"),
        ("kid2k_full_NIR", "KD(net)", "kd2k_full_NIR.net"),
        ("pr2k3_full", "PR(net)", "pr2k3_full.net"),
        ("is2k", "IS(net)", "is2k.net"),
        ("vendi2k", "Vendi(net)", "vendi2k.net"),
        ("ppl2_wend", "PPL(net)", "ppl2_wend.net"),
    ],
)
def test_other_networks_do_not_earn_the_name(name, label, result):
    metric = parse_metric(name)
    assert metric.names("net") == (result, label)
    assert metric.names()[0] == name
    assert "(" not in metric.names()[1]


def test_roles():
    assert parse_metric("fid2k_full").role is Role.FEATURES
    assert parse_metric("is2k").role is Role.PROBABILITIES
    assert parse_metric("pr2k3_full").role is Role.MANIFOLD
    assert parse_metric("ppl2_wend").role is Role.PERCEPTUAL
