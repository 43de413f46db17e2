import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from interpreter import native
from interpreter.ensemble import ensemble_from_states, load_models
from interpreter.features import FeatureLayout
from interpreter.native import Consensus, NativeInterpreter, first_argmax, uncertainty_score
from tests.helpers.pixel_classifiers import (
    plain_classifier,
    plain_features,
    published_state,
    random_maps,
    small_layout,
)
from tests.helpers.pretend_gpu import CUDA, pretend_gpu

SHARED = Path(__file__).resolve().parents[3] / "shared"

LAYOUTS = {
    "all levels": small_layout(64),
    "small image": small_layout(8),
    "one level": FeatureLayout(4, (5, 3), (4, 4)),
    "levels missing": FeatureLayout(64, (5, 4, 3), (4, 16, 64)),
    "no full-size level": FeatureLayout(32, (5, 4), (8, 16)),
    "only coarse": FeatureLayout(32, (5,), (4,)),
    "not in order": FeatureLayout(32, (5, 4, 3, 2), (32, 4, 16, 4)),
}


def build(layout, members=3, classes=4):
    plain = [
        plain_classifier(layout.total, (6, 5), classes, seed=seed).double()
        for seed in range(members)
    ]
    states = [published_state(layers.float()) for layers in plain]
    ensemble = ensemble_from_states(states, "here")
    return [layers.double() for layers in plain], ensemble


@pytest.mark.parametrize("name", LAYOUTS)
def test_logits_are_those_of_the_plain_definition(name):
    layout = LAYOUTS[name]
    plain, ensemble = build(layout)
    maps = random_maps(layout)
    features = plain_features(maps, layout.resolution)
    expected = torch.stack([layers(features) for layers in plain])
    logits = NativeInterpreter(ensemble, layout).logits(maps).double()
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * scale)


def test_strips_and_member_groups_change_nothing(monkeypatch):
    layout = small_layout(32)
    _, ensemble = build(layout)
    maps = random_maps(layout)
    whole = NativeInterpreter(ensemble, layout)
    monkeypatch.setattr(native, "_STRIP_BYTES", {"cpu": 1})
    monkeypatch.setattr(native, "_MAX_PROJECTION_BYTES", 1)
    parts = NativeInterpreter(ensemble, layout)
    torch.testing.assert_close(parts.logits(maps), whole.logits(maps), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts.label(maps).divergence, whole.label(maps).divergence)
    assert torch.equal(parts.label(maps).labels, whole.label(maps).labels)
    assert parts.label(maps).score == pytest.approx(whole.label(maps).score, rel=1e-4)


def test_a_gpu_labels_alike_and_waits_once(monkeypatch):
    layout = small_layout(32)
    _, ensemble = build(layout)
    maps = random_maps(layout)
    expected = NativeInterpreter(ensemble, layout).label(maps)
    with pretend_gpu(monkeypatch) as record:
        interpreter = NativeInterpreter(ensemble.to(CUDA), layout)
        on_gpu = [m.to(CUDA) for m in maps]
        record.clear()
        found = interpreter.label(on_gpu)
        assert record.waits.total() == 1, "for the score, a number"
        assert torch.equal(found.labels.cpu(), expected.labels)
    assert found.score == pytest.approx(expected.score, rel=1e-5)


def test_each_level_goes_straight_to_full_size():
    """Two doublings in a row are another function than one fourfold upsampling."""
    layout = FeatureLayout(16, (1,), (4,))
    maps = random_maps(layout)
    straight = plain_features(maps, 16)
    cascade = plain_features([plain_features(maps, 8).t().view(1, 8, 8)], 16)
    assert float((straight - cascade).abs().max()) > 0.1


def test_labels_and_divergence_of_the_plain_definition():
    layout = small_layout(32)
    plain, ensemble = build(layout, members=4)
    maps = random_maps(layout, seed=3)
    features = plain_features(maps, 32)
    p = torch.stack([layers(features) for layers in plain]).softmax(dim=2)
    votes = torch.stack([(p.argmax(dim=2) == k).sum(dim=0) for k in range(4)], dim=1)
    result = NativeInterpreter(ensemble, layout).label(maps)
    smallest_first = (votes * 8 + torch.arange(3, -1, -1)).argmax(dim=1)
    agreement = (result.labels.flatten() == smallest_first).double().mean()
    assert float(agreement) >= 0.999
    mean = p.mean(dim=0)
    expected = torch.special.entr(mean).sum(1) - torch.special.entr(p).sum(2).mean(0)
    torch.testing.assert_close(result.divergence.flatten().double(), expected, rtol=1e-4, atol=1e-5)
    top = expected.sort().values[-102:].mean()
    assert result.score == pytest.approx(float(top), rel=1e-4)
    assert result.labels.dtype == torch.uint8
    assert result.labels.shape == result.divergence.shape == (32, 32)


def test_models_of_another_network_are_refused():
    _, ensemble = build(small_layout(16))
    with pytest.raises(ValueError, match="belong to another network"):
        NativeInterpreter(ensemble, small_layout(32))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the published models in ../shared")
def test_the_published_models_give_the_golden_labels():
    golden = json.loads((SHARED / "golden" / "interpreter.json").read_text())
    expected = np.load(SHARED / "golden" / "interpreter.npz")
    layout = FeatureLayout(256, tuple(golden["channels"]), tuple(golden["resolutions"]))
    maps = []
    for index, (channels, side) in enumerate(zip(layout.channels, layout.sides, strict=True)):
        random = np.random.RandomState(golden["feature_seed_base"] + index)
        maps.append(torch.from_numpy(random.standard_normal((channels, side, side))).float())
    ensemble = load_models(SHARED / "ocular" / "experiment" / "models").ensemble
    interpreter = NativeInterpreter(ensemble, layout)
    logits, result = interpreter.logits(maps), interpreter.label(maps)
    scale = np.abs(expected["logits_every_997th_pixel"]).max()
    difference = logits[:, ::997].numpy() - expected["logits_every_997th_pixel"]
    assert np.abs(difference).max() < 1e-5 * scale
    labels = logits.argmax(dim=2).view(4, 256, 256).numpy()
    assert (labels == expected["labels"]).mean() >= 0.9999
    assert (result.labels.numpy() == expected["vote"]).mean() >= 0.9999
    assert np.abs(result.divergence.numpy() - expected["js"]).max() < 5e-3
    assert result.score == pytest.approx(float(expected["uncertainty"]), abs=1e-4)


# What the members agree on


def consensus_of(logits):
    members, pixels, classes = logits.shape
    result, logits = Consensus(pixels, classes), logits.transpose(1, 2)
    half = pixels // 2
    for member in range(members):  # members one by one, pixels in two strips
        part = logits[member : member + 1]
        result.add(part[..., :half], slice(0, half))
        result.add(part[..., half:], slice(half, pixels))
    return result


def test_ties_go_to_the_smallest_class():
    values = torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 1.0, 5.0]])
    assert first_argmax(values, dim=1).tolist() == [1, 0, 2]


def test_the_vote_is_the_mode_of_the_members_labels():
    logits = torch.randn([5, 200, 4], generator=torch.Generator().manual_seed(0))
    labels = logits.argmax(dim=2).numpy()
    expected = scipy.stats.mode(labels, axis=0).mode  # of equal counts, the smallest
    assert np.array_equal(consensus_of(logits).labels().numpy(), expected)
    counts = np.stack([(labels == k).sum(axis=0) for k in range(4)])
    assert (np.sort(counts, axis=0)[-1] == np.sort(counts, axis=0)[-2]).any()


def test_divergence_is_entropy_of_the_mean_minus_mean_of_entropies():
    logits = 3 * torch.randn([5, 60, 4], generator=torch.Generator().manual_seed(0))
    p = logits.double().softmax(dim=2).numpy()
    expected = scipy.stats.entropy(p.mean(axis=0), axis=1) - scipy.stats.entropy(p, axis=2).mean(0)
    np.testing.assert_allclose(consensus_of(logits).divergence().numpy(), expected, atol=1e-6)


def test_members_that_agree_have_no_divergence():
    logits = torch.randn([1, 60, 4], generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1)
    assert float(consensus_of(logits).divergence().abs().max()) < 1e-6


def test_divergence_of_certain_members_that_disagree():
    logits = torch.tensor([[[100.0, -100.0]] * 2, [[-100.0, 100.0]] * 2])
    expected = torch.full([2], np.log(2), dtype=torch.float32)
    torch.testing.assert_close(consensus_of(logits).divergence(), expected)


@pytest.mark.parametrize(("pixels", "top"), [(100, 10), (65536, 6553), (5, 1)])
def test_the_score_is_the_mean_of_the_top_tenth(pixels, top):
    values = torch.rand([pixels], generator=torch.Generator().manual_seed(0))
    expected = np.sort(values.numpy().astype(np.float64))[-top:].mean()
    assert uncertainty_score(values) == pytest.approx(expected, rel=1e-9)
