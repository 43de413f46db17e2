"""A training iteration on a GPU that is not there: no device is mixed, and the host never waits."""

import pytest
import torch

from data.modalities import JOINT
from networks.options import HalfPrecision
from tests.helpers.configs import small_loss_config, small_training_config
from tests.helpers.networks import small_discriminator_config, small_generator_config
from tests.helpers.pretend_gpu import CUDA, pretend_gpu
from torch_utils.ops import backends
from training.ada import AdaConfig
from training.augmentation.config import AUGPIPES
from training.config import MISMATCH
from training.options import AdaMode
from training.state import TrainingState
from training.step import Iteration


def build_iteration(device, *, joint=False, **changes):
    """All phases, all augmentations, two 16-bit blocks; `joint` adds a discriminator of pairs."""
    common = {"num_fp16_res": 2, "conv_clamp": 256.0, "c_dim": 3, **changes.pop("networks", {})}
    channels = {"rgb": 3, "nir": 1} | ({JOINT: 4} if joint else {})
    weights = dict.fromkeys(channels, 1.0)
    config = small_training_config(
        generator=small_generator_config(**common),
        discriminators={
            name: small_discriminator_config(channels=count, **common)
            for name, count in channels.items()
        },
        loss=small_loss_config(
            weights=weights | ({MISMATCH: 0.3} if joint else {}), gammas=weights
        ),
        augment=AUGPIPES["bgcfnc"],
        ada=AdaConfig(mode=AdaMode.ADAPTIVE, p=0.8, interval=2),
        batch=2,
        **changes,
    )
    labels = torch.randn([7, 3], generator=torch.Generator().manual_seed(0))
    return Iteration(config, TrainingState(config, device), batch_gpu=2, labels=labels)


def random_batch():
    random = torch.Generator().manual_seed(1)
    sizes = {"rgb": [2, 3, 16, 16], "nir": [2, 1, 16, 16]}
    images = {
        name: torch.randint(256, size, generator=random, dtype=torch.uint8)
        for name, size in sizes.items()
    }
    return {**images, "label": torch.randn([2, 3], generator=random)}


@pytest.mark.parametrize(
    ("nhwc", "half", "joint"), [(False, "float16", True), (True, "bfloat16", False)]
)
def test_an_iteration_keeps_the_gpu_busy(nhwc, half, joint, monkeypatch):
    with pretend_gpu(monkeypatch) as record, backends.using("plain"):
        networks = {"half_dtype": HalfPrecision(half)}
        iteration = build_iteration(CUDA, joint=joint, nhwc=nhwc, networks=networks)
        record.clear()
        iteration.run(random_batch())
        assert record.waits == {}
        assert record.conversions == {}
        assert record.large_kernels == {}
        # What is read now and then: the signs that adapt p, and a tick's row.
        controller = iteration.state.ada["rgb"]
        controller.update(iteration.signs["rgb"], 2)
        assert record.waits.total() == 1
        iteration.state.statistics.summary()
        assert record.waits.total() == 2


def test_computes_what_the_cpu_does(monkeypatch):
    """The penalties' convolutions differ, their derivatives do not."""
    weights = []
    for device in (torch.device("cpu"), CUDA):
        with pretend_gpu(monkeypatch), backends.using("plain"):
            iteration = build_iteration(device, networks={"num_fp16_res": 0})
            iteration.phases = [p for p in iteration.phases if p.kind.value in ("Greg", "Dreg")]
            optimizers = iteration.state.optimizers
            for name in optimizers:  # the gradient itself stays visible
                optimizers[name] = torch.optim.SGD(optimizers[name].param_groups[0]["params"], lr=1)
            iteration.run(random_batch())
            networks = iteration.state.networks().values()
            weights.append([p.detach().cpu() for n in networks for p in n.parameters()])
    for ours, plain in zip(*weights, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
