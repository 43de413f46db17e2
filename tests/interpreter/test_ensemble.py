import pytest
import torch

from interpreter.ensemble import (
    PixelEnsemble,
    ensemble_from_states,
    hidden_widths,
    member_state,
)
from tests.helpers.pixel_classifiers import plain_classifier, published_state

WIDTHS = (7, (6, 5), 3)


def build(count=3):
    plain = [plain_classifier(*WIDTHS, seed=seed) for seed in range(count)]
    return plain, ensemble_from_states([published_state(layers) for layers in plain], "here")


def test_the_published_shapes_by_class_count():
    assert hidden_widths(31) == (128, 32)
    assert hidden_widths(32) == (256, 128)


def test_evaluation_is_that_of_each_member_alone(assert_near):
    plain, ensemble = build()
    x = torch.randn([3, 11, 7], generator=torch.Generator().manual_seed(1))
    expected = torch.stack([layers(rows) for layers, rows in zip(plain, x, strict=True)])
    assert_near(ensemble(x), expected)
    assert_near(ensemble(x[0])[2], plain[2](x[0]))


def test_training_mode_normalises_each_member_by_its_own_batch(assert_near):
    plain, ensemble = build()
    x = torch.randn([3, 11, 7], generator=torch.Generator().manual_seed(1))
    expected = torch.stack([layers.train()(rows) for layers, rows in zip(plain, x, strict=True)])
    ensemble.train()
    assert_near(ensemble(x), expected)
    for index, place in ((0, 2), (1, 5)):
        mean, var = ensemble.running(index)
        for member, layers in enumerate(plain):
            assert_near(mean[member], layers[place].running_mean)
            assert_near(var[member], layers[place].running_var)


def test_members_start_apart():
    ensemble = PixelEnsemble(7, (6, 5), 3, members=2, seed=0)
    assert not torch.equal(ensemble.weights[0][0], ensemble.weights[0][1])
    same = PixelEnsemble(7, (6, 5), 3, members=2, seed=0)
    assert torch.equal(ensemble.weights[2], same.weights[2])
    big = PixelEnsemble(512, (128, 32), 3, members=2)
    assert abs(float(big.weights[0].detach().std()) - 0.02) < 0.001


@pytest.mark.parametrize("prefix", ["module.layers.", "layers.", ""])
def test_states_round_trip_with_and_without_prefix(prefix):
    plain, ensemble = build(1)
    state = {f"{prefix}{name}": tensor for name, tensor in plain[0].state_dict().items()}
    loaded = ensemble_from_states([state], "here")
    for name, tensor in member_state(loaded, 0, batches=5).items():
        expected = published_state(plain[0])[name]
        if name.endswith("num_batches_tracked"):
            assert int(tensor) == 5
        else:
            assert torch.equal(tensor, expected)


def test_folded_norms_are_the_norms(assert_near):
    plain, ensemble = build(2)
    factor, offset = ensemble.folded_norm(0)
    x = torch.randn([4, 6], generator=torch.Generator().manual_seed(2))
    assert_near((x * factor[1] + offset[1]).float(), plain[1][2](x))


def test_bad_states_are_refused():
    plain, _ = build(2)
    good = published_state(plain[0])
    with pytest.raises(ValueError, match="at least one model"):
        ensemble_from_states([], "here")
    with pytest.raises(ValueError, match=r"layers\.0\.weight must be a matrix"):
        ensemble_from_states([{}], "here")
    missing = {name: tensor for name, tensor in good.items() if "5.bias" not in name}
    with pytest.raises(ValueError, match=r"model 1: not a pixel classifier: no layers\.5\.bias"):
        ensemble_from_states([good, missing], "here")
    with pytest.raises(ValueError, match=r"unknown layers\.extra"):
        ensemble_from_states([{**good, "extra": torch.zeros(1)}], "here")
    other = published_state(plain_classifier(8, (6, 5), 3))
    with pytest.raises(ValueError, match=r"must have shape \[6, 7\], got \[6, 8\]"):
        ensemble_from_states([good, other], "here")
    broken = {**good, "module.layers.3.bias": torch.full([5], float("nan"))}
    with pytest.raises(ValueError, match="not finite"):
        ensemble_from_states([broken], "here")
