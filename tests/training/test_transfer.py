"""Starting from a snapshot: what is copied, what is made from the RGB branch, what is refused."""

from pathlib import Path

import pytest
import torch

from networks.config import Architecture, MappingConfig
from networks.discriminator import Discriminator
from networks.generator import Generator
from networks.layers import normalize_second_moment
from networks.snapshot import Snapshot, build_generator, capture
from tests.helpers.configs import small_training_config
from tests.helpers.networks import (
    random_network,
    small_discriminator_config,
    small_generator_config,
)
from tests.helpers.tensors import random
from training.state import TrainingState
from training.transfer import (
    add_luma_head,
    begin,
    plan_start,
    sum_over_colors,
)

SINGLE = {"rgb": 3}
Z_DIM = small_generator_config().z_dim


def snapshot(*, generators=("G", "G_ema"), discriminators=("D", "D_NIR"), **changes):
    """A snapshot of random networks, each with other weights."""
    networks = {}
    for seed, name in enumerate(generators):
        networks[name] = random_network(small_generator_config(**changes), seed)
    changes.pop("heads", None)
    changes = {key: value for key, value in changes.items() if key not in ("w_dim", "z_dim")}
    for seed, name in enumerate(discriminators):
        config = small_discriminator_config(channels=1 if name == "D_NIR" else 3, **changes)
        networks[name] = random_network(config, 10 + seed)
    return Snapshot(networks={name: capture(network) for name, network in networks.items()})


def transfer(source, **changes):
    return plan_start(small_training_config(**changes), source, Path("start.pkl")).networks


# What is made from the RGB branch


@torch.no_grad()
@pytest.mark.parametrize("architecture", Architecture)
def test_nir_of_a_luma_extended_generator_is_the_luma_of_its_rgb(architecture):
    config = small_generator_config(architecture=architecture, heads=SINGLE)
    single = random_network(config)
    dual = Generator(small_generator_config(architecture=architecture))
    dual.load_state_dict(add_luma_head(single.state_dict()))
    z = random(4, 8)
    images, before = dual(z, noise_mode="const"), single(z, noise_mode="const")
    assert torch.equal(images["rgb"], before["rgb"])
    luma = (images["rgb"] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, True)
    torch.testing.assert_close(images["nir"], luma, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("architecture", Architecture)
def test_nir_discriminator_answers_as_to_three_equal_channels(architecture, c_dim):
    options = {"architecture": architecture, "c_dim": c_dim}
    rgb = random_network(small_discriminator_config(**options))
    nir = Discriminator(small_discriminator_config(**options, channels=1))
    nir.load_state_dict(sum_over_colors(rgb.state_dict()))
    images, c = random(4, 1, 16, 16), random(4, c_dim)
    torch.testing.assert_close(
        nir(images, c), rgb(images.expand(-1, 3, -1, -1), c), rtol=1e-4, atol=1e-4
    )


def test_a_grey_single_branch_generator_gives_its_image_to_the_nir_head():
    grey = random_network(small_generator_config(heads={"rgb": 1}))
    state = add_luma_head(grey.state_dict())
    for name in [name for name in state if ".heads.nir." in name]:
        assert torch.equal(state[name], state[name.replace(".nir.", ".rgb.")])


# What is copied


def assert_equal_states(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        assert torch.equal(actual[name], expected[name])


def test_dual_snapshot_is_copied_whole():
    source = snapshot()
    states = transfer(source)
    assert list(states) == ["G", "G_ema", "D", "D_NIR"]
    for name, state in states.items():
        assert_equal_states(state, source.networks[name].state)


def test_single_branch_snapshot_gets_the_nir_branch():
    source = snapshot(heads=SINGLE, discriminators=("D",))
    states = transfer(source)
    for name in ("G", "G_ema"):
        assert_equal_states(states[name], add_luma_head(source.networks[name].state))
    assert_equal_states(states["D"], source.networks["D"].state)
    assert_equal_states(states["D_NIR"], sum_over_colors(source.networks["D"].state))


@pytest.mark.parametrize(("kept", "missing"), [("G", "G_ema"), ("G_ema", "G")])
def test_generator_and_average_stand_in_for_each_other(kept, missing):
    source = snapshot(generators=(kept,))
    assert_equal_states(transfer(source)[missing], source.networks[kept].state)


# What is refused


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        (
            {"generators": ()}, {},
            "--resume start.pkl: the snapshot has no network G$",
        ),
        (
            {"discriminators": ()}, {},
            "--resume start.pkl: the snapshot has no network D$",
        ),
        (
            {"resolution": 32}, {},
            "start.pkl: G is of 32 pixels, the data has 16: .*import --resolution 32",
        ),
        (
            {"channel_max": 8}, {},
            r"G: synthesis.blocks.b4.const has shape \[8, 4, 4\], needed is \[16, 4, 4\]; .*--cmax",
        ),
        (
            {"w_dim": 16}, {},
            r"has shape \[16, 16\], needed is \[16, 12\]; check --cfg, --cbase, --cmax and --w-dim",
        ),
        (
            {"mapping": MappingConfig(layers=1)}, {},
            r"G: mapping.fc.*; check --map-depth, --z-dim, --w-dim and --cond",
        ),
        (
            {"mapping": MappingConfig(layers=3)}, {},
            "G has mapping.fc2.weight, which this run lacks; check --map-depth",
        ),
        ({"c_dim": 3}, {}, "G is conditional on 3 labels: use --cond=1 with labelled data$"),
        ({"heads": {"rgb": 1}}, {}, "G draws 1 channels, RGB has 3"),
        ({"activation": "relu"}, {}, "G has activation relu, this run lrelu; .*another snapshot"),
        ({"resample_filter": (1.0, 1.0)}, {}, r"G has resample_filter \(1.0, 1.0\), this run"),
        (
            {"mapping": MappingConfig(layers=2, lr_multiplier=0.1)}, {},
            "G has mapping lr_multiplier 0.1, this run 0.01",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(source, changes, message):
    with pytest.raises(ValueError, match=message):
        transfer(snapshot(**source), **changes)


def test_a_run_without_noise_needs_a_snapshot_without():
    generator = small_generator_config(use_noise=False)
    with pytest.raises(ValueError, match=r"this run lacks; check --noise$"):
        transfer(snapshot(), generator=generator)


def conditional(rgb, nir):
    """Changes of a run whose networks have conditions of these widths."""
    return {
        "generator": small_generator_config(c_dim=rgb),
        "discriminators": {
            "rgb": small_discriminator_config(c_dim=rgb),
            "nir": small_discriminator_config(c_dim=nir, channels=1),
        },
    }


def arc_snapshot():
    """As ArcBiFaceGAN writes it: only the NIR discriminator is unconditional."""
    source, plain = snapshot(c_dim=3), snapshot()
    return Snapshot(networks={**source.networks, "D_NIR": plain.networks["D_NIR"]})


@pytest.mark.parametrize(
    ("source", "widths", "message"),
    [
        (snapshot(c_dim=5), (3, 3), "G is conditional on 5 labels, the data has 3: check --cond$"),
        (
            snapshot(c_dim=3, heads=SINGLE, discriminators=("D",)),
            (3, 0),
            "D_NIR is conditional on 3 labels: use --nir-cond=1 or --nir-init=random$",
        ),
    ],
)
def test_conditions_that_differ_name_the_option(source, widths, message):
    with pytest.raises(ValueError, match=message):
        transfer(source, **conditional(*widths))


def test_arc_snapshot_is_restored_with_an_unconditional_nir_discriminator():
    source = arc_snapshot()
    states = transfer(source, **conditional(3, 0))
    for name, state in states.items():
        assert_equal_states(state, source.networks[name].state)


# A condition that the snapshot lacks


def test_a_condition_first_takes_the_part_of_half_a_latent():
    source = snapshot()
    config = small_training_config(**conditional(3, 3))
    state = TrainingState(config, torch.device("cpu"))
    begin(state, plan_start(config, source, Path("start.pkl")))
    assert state.nimg == 0
    mapping, before = state.generator.mapping, build_generator(source, "G")
    z, c = random(4, Z_DIM), random(4, 3, seed=1)
    with torch.no_grad():
        embedded = normalize_second_moment(mapping.embed(c))
        width = embedded.shape[1]
        folded = torch.zeros(4, max(Z_DIM, width)).index_add_(
            1, torch.arange(width) % Z_DIM, embedded
        )[:, :Z_DIM]
        latent = (normalize_second_moment(z) + folded) * (Z_DIM / (Z_DIM + width)) ** 0.5
        weight = before.mapping.fc0
        expected = weight(latent)
        actual = mapping.fc0(torch.cat([normalize_second_moment(z), embedded], dim=1))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_discriminators_keep_all_but_their_last_layer():
    source = snapshot()
    config = small_training_config(**conditional(3, 3))
    state, scratch = (TrainingState(config, torch.device("cpu")) for _ in range(2))
    begin(state, plan_start(config, source, Path("start.pkl")))
    for name in ("D", "D_NIR"):
        ours, new = (s.networks()[name].state_dict() for s in (state, scratch))
        for key, tensor in ours.items():
            is_new = key.startswith(("mapping.", "epilogue.out."))
            origin = new if is_new else source.networks[name].state
            assert torch.equal(tensor, origin[key]), key


def test_gradients_reach_the_condition():
    config = small_training_config(**conditional(3, 3))
    state = TrainingState(config, torch.device("cpu"))
    begin(state, plan_start(config, snapshot(), Path("start.pkl")))
    state.generator.requires_grad_(True)
    ws = state.generator.map(random(4, Z_DIM), random(4, 3, seed=1))
    ws.square().sum().backward()
    assert state.generator.mapping.fc0.weight.grad[:, Z_DIM:].abs().min() > 0


def test_published_unconditional_nir_discriminator_learns_the_condition(caplog):
    caplog.set_level("INFO")
    states = transfer(arc_snapshot(), **conditional(3, 3))
    assert not any("epilogue.out" in key for key in states["D_NIR"])
    assert any("epilogue.out" in key for key in states["D"])
    assert caplog.messages[-1] == "D_NIR: 18 tensors copied; the condition starts random"


# A random NIR branch


def test_random_nir_branch_begins_as_from_scratch(caplog):
    caplog.set_level("INFO")
    source = snapshot(heads=SINGLE, discriminators=("D",))
    config = small_training_config(nir_init="random")
    state, scratch = (TrainingState(config, torch.device("cpu")) for _ in range(2))
    begin(state, plan_start(config, source, Path("start.pkl")))
    for name in ("G", "G_ema"):
        ours, new = (s.networks()[name].state_dict() for s in (state, scratch))
        for key, tensor in ours.items():
            origin = new if ".heads.nir." in key else source.networks[name].state
            assert torch.equal(tensor, origin[key]), key
    assert_equal_states(
        state.discriminators["nir"].state_dict(), scratch.discriminators["nir"].state_dict()
    )
    assert caplog.messages == [
        "G: 48 tensors copied; the NIR heads start random",
        "G_ema: 48 tensors copied; the NIR heads start random",
        "D: 18 tensors copied",
        "D_NIR: starts random, the snapshot has none",
    ]


def test_random_does_not_touch_a_nir_branch_that_is_there():
    source = snapshot()
    for name, state in transfer(source, nir_init="random").items():
        assert_equal_states(state, source.networks[name].state)


def test_what_was_made_of_what_is_logged(caplog):
    caplog.set_level("INFO")
    transfer(snapshot(heads=SINGLE, generators=("G",), discriminators=("D",)))
    assert caplog.messages == [
        "G: 48 tensors copied; 12 of the NIR heads start as the luma of the RGB heads",
        "G_ema: 48 tensors copied from G; 12 of the NIR heads start as the luma of the RGB heads",
        "D: 18 tensors copied",
        "D_NIR: 18 tensors from D, the input summed over colours",
    ]
