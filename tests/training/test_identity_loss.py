"""The identity loss: what it teaches, whose recogniser it takes, and that a run continues."""

import json
import signal

import pytest
import torch

from dnnlib.config import to_dict
from tests.biometrics.test_recognisers import save_onnx
from tests.helpers.configs import resolve_options, small_loss_config, small_training_config
from tests.helpers.images import write_json
from tests.helpers.networks import small_discriminator_config, small_generator_config
from tests.helpers.people import WIDTH, save_recogniser, write_features
from tests.helpers.tensors import random64 as random
from tests.helpers.training import run, run_folder, tiny_data, tiny_options
from training.identity_loss import load_loss_embedder
from training.jobs import prepare
from training.losses import identity_loss
from training.state import TrainingState
from training.step import Iteration


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory):
    return save_recogniser(tmp_path_factory.mktemp("model") / "recogniser.pth")


@pytest.fixture(scope="module")
def data(tmp_path_factory, recogniser):
    root = tiny_data(tmp_path_factory.mktemp("data") / "set")
    write_features(root, recogniser)
    return root


def options(data, outdir, recogniser, **changes):
    values = {"identity_weight": 1.0, "identity_weight_nir": 0.5, "rec_model": recogniser}
    return tiny_options(data, outdir, **{**values, **changes})


def test_it_is_the_cosine_distance_whatever_the_length():
    vectors, others = random(5, 4), random(5, 4, seed=1)
    units = [rows / rows.norm(dim=1, keepdim=True) for rows in (vectors, others)]
    cosines = (units[0] * units[1]).sum(dim=1)
    torch.testing.assert_close(identity_loss(vectors, others * 4), 1 - cosines)
    torch.testing.assert_close(identity_loss(vectors, -vectors), torch.full([5], 2.0).double())


# Options


def test_without_weight_a_run_is_what_it_was():
    config = to_dict(resolve_options(identity_weight=0.0)[0])
    assert config["loss"]["weights"] == {"rgb": 1.0, "nir": 1.0}
    assert "rec_model" not in config


def test_weights_are_of_modalities(recogniser):
    config, _ = resolve_options(identity_weight_nir=0.5, rec_model=recogniser)
    assert config.loss.weights == {"rgb": 1.0, "nir": 1.0, "identity_nir": 0.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rec_model": None}, "--identity-weight needs --rec-model"),
        ({"identity_weight": 0.0, "identity_weight_nir": 0.0}, "--rec-model needs --identity-w"),
        ({"cond": False}, "--identity-weight needs conditions"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message, data, recogniser, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare(options(data, tmp_path / "out", recogniser, **changes))
    assert not (tmp_path / "out").exists()


def test_only_the_recogniser_of_the_features_is_taken(data, tmp_path):
    other = save_recogniser(tmp_path / "other.pth", seed=1)
    with pytest.raises(ValueError, match=r"--rec-model .*other\.pth: must be the recogniser that"):
        prepare(options(data, tmp_path / "out", other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, r"identity_features\.info\.json, which says whose"),
        ({"preprocessing": {"size": 16, "align": "mtcnn"}}, "of aligned faces"),
    ],
)
def test_features_must_be_known_and_of_images_as_they_are(change, message, recogniser, tmp_path):
    root = tiny_data(tmp_path / "set")
    info = write_features(root, recogniser).with_suffix(".info.json")
    if change is None:
        info.unlink()
    else:
        write_json(info, json.loads(info.read_text()) | change)
    with pytest.raises(ValueError, match=message):
        prepare(options(root, tmp_path / "out", recogniser))


def test_a_network_without_gradients_is_refused(tmp_path):
    root, network = tiny_data(tmp_path / "set"), save_onnx(tmp_path / "recogniser.onnx")
    write_features(root, network)
    with pytest.raises(ValueError, match=r"recogniser\.onnx: must give gradients"):
        prepare(options(root, tmp_path / "out", network))


# Training


def test_it_teaches_the_generator_alone(data, recogniser, tmp_path):
    embedder = prepare(options(data, tmp_path / "out", recogniser)).embedder
    before = {name: tensor.clone() for name, tensor in embedder.backbone.state_dict().items()}
    weights = {"rgb": 0.0, "nir": 0.0, "identity_rgb": 1.0}
    config = small_training_config(
        generator=small_generator_config(c_dim=WIDTH),
        discriminators={
            name: small_discriminator_config(channels=channels, c_dim=WIDTH)
            for name, channels in (("rgb", 3), ("nir", 1))
        },
        loss=small_loss_config(weights=weights, pl_weight=0.0),
    )
    state = TrainingState(config, torch.device("cpu"))
    labels = random(9, WIDTH).float()
    iteration = Iteration(config, state, batch_gpu=2, labels=labels, embed=embedder.embed_float)
    iteration._accumulate(iteration.phases[0], {}, torch.zeros(4, WIDTH), [])
    heads = state.generator.synthesis.blocks["b16"].heads
    assert heads["rgb"].weight.grad.abs().max() > 0
    assert heads["nir"].weight.grad.abs().max() == 0
    networks = [embedder.backbone, *state.discriminators.values()]
    assert all(p.grad is None for network in networks for p in network.parameters())
    for name, tensor in embedder.backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_run_continues_bit_for_bit_and_reports_both_modalities(data, recogniser, tmp_path):
    assert run(options(data, tmp_path / "whole", recogniser))[0]
    torn = options(data, tmp_path / "torn", recogniser)
    stop = {2: lambda: signal.raise_signal(signal.SIGTERM)}
    assert not run(torn, on_step=lambda done: stop.get(done, int)())[0]
    assert run(torn)[0]
    folders = [run_folder(tmp_path / name) for name in ("whole", "torn")]
    files = [folder / "network-snapshot-000001.pkl" for folder in folders]
    assert files[0].read_bytes() == files[1].read_bytes()
    row = json.loads((folders[0] / "stats.jsonl").read_text().splitlines()[-1])
    for name in ("Loss/G/identity", "Loss/G/identity_NIR"):
        assert row[name]["num"] == 1000
        assert 0 < row[name]["mean"] < 2


def test_the_embedder_is_that_of_the_features(data, recogniser, tmp_path):
    job = prepare(options(data, tmp_path / "out", recogniser))
    embedder = load_loss_embedder(recogniser, job.dataset, "cpu")
    images = torch.stack([job.dataset[i]["rgb"] for i in range(4)])
    found = embedder.embed_float(images.float() / 127.5 - 1)
    assert identity_loss(found, job.dataset.labels[:4]).max() < 1e-5
