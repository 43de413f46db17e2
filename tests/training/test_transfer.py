"""Starting from a snapshot: what is copied, what is made from the RGB branch, what is refused."""

import pytest
import torch

from tests.helpers.configs import small_training_config
from tests.helpers.networks import (
    random_network,
    small_discriminator_config,
    small_generator_config,
)
from training.architecture import Architecture, MappingConfig
from training.discriminator import Discriminator
from training.generator import Generator
from training.network_state import capture
from training.snapshots import Snapshot
from training.state import TrainingState
from training.transfer import add_luma_head, sum_over_colors, transfer_states

SINGLE = {"rgb": 3}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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
    return transfer_states(small_training_config(**changes), source, "start.pkl")


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


def test_a_state_loads_what_is_transferred():
    config = small_training_config()
    state, source = TrainingState(config, torch.device("cpu")), snapshot()
    state.load_networks(transfer(source))
    for name, network in state.networks().items():
        assert_equal_states(network.state_dict(), source.networks[name].state)
    assert state.nimg == 0


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
        ({"c_dim": 3}, {}, "G.*mapping.*--cond"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(source, changes, message):
    with pytest.raises(ValueError, match=message):
        transfer(snapshot(**source), **changes)


def test_a_condition_that_the_snapshot_lacks_is_named():
    changes = {
        "generator": small_generator_config(c_dim=3),
        "discriminators": {
            "rgb": small_discriminator_config(c_dim=3),
            "nir": small_discriminator_config(c_dim=3, channels=1),
        },
    }
    with pytest.raises(ValueError, match="G: mapping.*check .*--cond"):
        transfer(snapshot(), **changes)
