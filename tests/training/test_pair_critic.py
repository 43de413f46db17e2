"""The joint discriminator: what it sees, whom it teaches, how it starts, and that it continues."""

import dataclasses
import json
import signal
from pathlib import Path

import pytest
import torch

from dnnlib.config import to_dict
from networks.discriminator import Discriminator
from networks.snapshot import Snapshot, capture, load_snapshot
from tests.helpers.augmentation import augment, noise_images
from tests.helpers.configs import resolve_options, small_loss_config, small_training_config
from tests.helpers.networks import random_network, small_discriminator_config
from tests.helpers.tensors import random
from tests.helpers.training import run, run_folder, tiny_data, tiny_options
from training.augmentation.config import AUGPIPES
from training.losses import discriminator_input, mismatched_pairs
from training.state import TrainingState
from training.step import Iteration
from training.transfer import Start, begin, join_first_layers, plan_start

JOINT = small_discriminator_config(channels=4)
NETWORKS = {
    "beside": ["G", "G_ema", "D", "D_NIR", "D_JOINT"],
    "alone": ["G", "G_ema", "D_JOINT"],
}


# What it sees


def test_it_sees_all_channels_of_a_sample():
    images = {"rgb": random(2, 3, 4, 4), "nir": random(2, 1, 4, 4, seed=1)}
    assert discriminator_input("nir", images) is images["nir"]
    joint = discriminator_input("joint", images)
    assert torch.equal(joint, torch.cat([images["rgb"], images["nir"]], dim=1))


def test_mismatched_pairs_are_of_two_samples():
    pairs = random(3, 4, 2, 2)
    mixed = mismatched_pairs(pairs)
    assert torch.equal(mixed[:, :3], pairs[:, :3])
    assert torch.equal(mixed[:, 3], pairs[[2, 0, 1], 3])


@pytest.mark.parametrize("name", sorted(AUGPIPES.keys() - {"noise", "bgcfn", "bgcfnc"}))
def test_both_images_are_augmented_alike(name):
    images, config = noise_images(6, 4, 16, 16), vars(AUGPIPES[name])
    joint = augment(images, channels=(3, 1), **config)
    for part in (slice(0, 3), slice(3, 4)):
        torch.testing.assert_close(joint[:, part], augment(images[:, part], **config))


def test_noise_of_the_images_is_independent():
    added = augment(torch.zeros(1, 4, 64, 64), channels=(3, 1), noise=1e9, noise_std=0.1)
    correlation = torch.corrcoef(added[0].flatten(1))[3, :3]
    assert correlation.abs().max() < 0.1


@pytest.mark.parametrize("channels", [(), (3, 3), (2, 2)])
def test_channels_that_do_not_fit_are_refused(channels):
    with pytest.raises(ValueError, match="1 or 3 channels each"):
        augment(noise_images(2, 4, 8, 8), channels=channels, xflip=1.0)


# Options


def test_without_it_nothing_is_configured():
    config = to_dict(resolve_options()[0])
    assert list(config["discriminators"]) == ["rgb", "nir"]
    assert list(config["loss"]["weights"]) == list(config["loss"]["gammas"]) == ["rgb", "nir"]


def test_weights_width_and_channels():
    config, _ = resolve_options(
        pair_critic="beside", pair_weight=2.0, pair_width=0.5, pair_mismatch=0.3, gamma=7.0
    )
    assert config.loss.weights == {"rgb": 1, "nir": 1, "joint": 2, "mismatch": 0.3}
    assert config.loss.gammas["joint"] == 7
    joint, rgb = config.discriminators["joint"], config.discriminators["rgb"]
    assert (joint.channels, joint.channel_base) == (4, rgb.channel_base // 2)
    assert list(resolve_options(pair_critic="alone")[0].discriminators) == ["joint"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pair_mismatch": 1.0}, "--pair-mismatch needs --pair-critic"),
        ({"pair_weight": 2.0}, "--pair-weight needs --pair-critic"),
        ({"pair_critic": "alone", "pair_width": 0.01}, "--pair-width .*got 0.01"),
        (
            {"pair_critic": "alone", "pair_mismatch": 1.0, "batch": 4, "batch_gpu": 1},
            "--pair-mismatch needs two images at once",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        resolve_options(**options)


# Training


def iteration(c_dim=0, **weights):
    """An iteration with the joint discriminator alone."""
    joint = small_discriminator_config(channels=4, c_dim=c_dim)
    loss = small_loss_config(
        weights={"joint": 1.0, **weights}, gammas={"joint": 1.0}, pl_weight=0.0
    )
    config = small_training_config(discriminators={"joint": joint}, loss=loss)
    state = TrainingState(config, torch.device("cpu"))
    return Iteration(config, state, batch_gpu=4, labels=torch.zeros(1, c_dim))


def batch(labels):
    images = {
        name: torch.randint(256, [4, channels, 16, 16], dtype=torch.uint8)
        for name, channels in (("rgb", 3), ("nir", 1))
    }
    return {**images, "label": labels}


def test_it_teaches_both_branches_of_the_generator():
    alone = iteration()
    alone._accumulate(alone.phases[0], {}, torch.zeros(4, 0), [])
    heads = alone.state.generator.synthesis.blocks["b16"].heads
    for name in ("rgb", "nir"):
        assert heads[name].weight.grad.abs().max() > 0, name


@pytest.mark.parametrize(("labels", "is_counted"), [([0, 1, 2, 3], True), ([1, 1, 1, 1], False)])
def test_images_of_one_identity_are_no_mismatch(labels, is_counted):
    c = torch.eye(4)[labels]
    losses = []
    for weights in ({}, {"mismatch": 1.0}):
        torch.manual_seed(0)
        made = iteration(c_dim=4, **weights)
        made.run(batch(c))
        losses.append(made.state.statistics.summary()["Loss/D/loss_joint"]["mean"])
    assert (losses[1] > losses[0]) == is_counted


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_data(tmp_path_factory.mktemp("data") / "set")


@pytest.mark.parametrize(("critic", "mismatch"), [("beside", 0.5), ("alone", 0.0)])
def test_a_run_stops_continues_and_writes_a_snapshot(critic, mismatch, data, tmp_path):
    options = {"pair_critic": critic, "pair_mismatch": mismatch}
    assert run(tiny_options(data, tmp_path / "whole", **options))[0]
    torn = tiny_options(data, tmp_path / "torn", **options)
    stop = {2: lambda: signal.raise_signal(signal.SIGTERM)}
    assert not run(torn, on_step=lambda done: stop.get(done, int)())[0]
    assert run(torn)[0]
    folders = [run_folder(tmp_path / name) for name in ("whole", "torn")]
    files = [folder / "network-snapshot-000001.pkl" for folder in folders]
    assert files[0].read_bytes() == files[1].read_bytes()
    snapshot = load_snapshot(files[0])
    assert list(snapshot.networks) == NETWORKS[critic]
    assert snapshot.networks["D_JOINT"].config.channels == 4
    row = json.loads((folders[0] / "stats.jsonl").read_text().splitlines()[-1])
    assert row["Loss/scores/real_joint"]["num"] == row["Loss/D/loss_joint"]["num"] == 1000
    assert ("Loss/scores/mismatch_joint" in row) == (mismatch > 0)
    assert ("Loss/D/loss_NIR" in row) == (critic == "beside")


# Transfer


@torch.no_grad()
def test_it_starts_as_the_mean_of_what_the_first_layers_answer():
    networks = {
        name: random_network(small_discriminator_config(channels=channels), seed)
        for seed, (name, channels) in enumerate({"D": 3, "D_NIR": 1}.items())
    }
    joint = Discriminator(JOINT)
    shapes = {name: tuple(tensor.shape) for name, tensor in joint.state_dict().items()}
    states = {name: capture(network) for name, network in networks.items()}
    joint.load_state_dict(join_first_layers(states, shapes))
    images = {"D": random(2, 3, 16, 16), "D_NIR": random(2, 1, 16, 16, seed=1)}
    first = [networks[name].blocks["b16"].from_image for name in images]
    linear = [
        torch.nn.functional.conv2d(image, layer.weight / layer.weight.shape[1] ** 0.5)
        + layer.bias[:, None, None]
        for layer, image in zip(first, images.values(), strict=True)
    ]
    layer = joint.blocks["b16"].from_image
    found = torch.nn.functional.conv2d(torch.cat([*images.values()], 1), layer.weight / 2)
    torch.testing.assert_close(found + layer.bias[:, None, None], sum(linear) / 2)
    for name, tensor in joint.state_dict().items():
        assert "from_image" in name or torch.equal(tensor, states["D"].state[name])


@pytest.mark.parametrize("width", [128, 64])
def test_a_snapshot_without_it_starts_it(width, caplog):
    caplog.set_level("INFO")
    plain = TrainingState(small_training_config(), torch.device("cpu"))
    source = Snapshot(networks={name: capture(net) for name, net in plain.networks().items()})
    joint = small_discriminator_config(channels=4, channel_base=width)
    plain_config = small_training_config()
    config = dataclasses.replace(
        plain_config,
        discriminators={**plain_config.discriminators, "joint": joint},
        loss=small_loss_config(gammas={"rgb": 1.0, "nir": 1.0, "joint": 1.0}),
        seed=1,
    )
    networks = plan_start(config, source, Path("start.pkl")).networks
    is_whole = width == plain_config.discriminators["rgb"].channel_base
    scratch = TrainingState(config, torch.device("cpu")).discriminators["joint"].state_dict()
    assert (networks["D_JOINT"].keys() == scratch.keys()) == is_whole
    assert 0 < len(networks["D_JOINT"]) <= len(scratch)
    assert f"D_JOINT: {len(networks['D_JOINT'])} of {len(scratch)} tensors" in caplog.text
    state = TrainingState(config, torch.device("cpu"))
    begin(state, Start(networks=networks, checkpoint=plain.state_dict()))
    begun = state.discriminators["joint"].state_dict()
    for name, tensor in scratch.items():
        assert torch.equal(begun[name], networks["D_JOINT"].get(name, tensor)), name
