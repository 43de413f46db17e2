"""Trains four steps in each of several processes, and saves what they agree on."""

import dataclasses

import torch

from tests.helpers.training import tiny_options
from torch_utils.distributed import init_distributed
from training.jobs import prepare
from training.options import AdaMode, PairCritic
from training.task import GanTask


def train_four_steps(data, target):
    """No augmentation, noise or path length: what is left is a function of the whole batch."""
    options = tiny_options(data, target.parent, batch=40, mbstd_group=5, pl_weight=0.0, gamma=1.0)
    changes = {"aug": AdaMode.ADAPTIVE, "p": None, "pair_critic": PairCritic.BESIDE}
    options = dataclasses.replace(options, **changes)
    plan = prepare(options)
    generator = dataclasses.replace(plan.config.generator, use_noise=False)
    ada = dataclasses.replace(plan.config.ada, interval=2)
    config = dataclasses.replace(plan.config, generator=generator, ada=ada)
    with init_distributed(torch.device("cpu")) as world:
        task = GanTask(config, plan.run_config, target.parent, plan.dataset, world=world)
        gradients = record_gradients(task)
        batches = task._load_batches()
        task.iteration.run(next(batches))
        first = dict(gradients)
        for _ in range(3):
            task.iteration.run(next(batches))
        task.state.statistics.collect()
        if world.is_first:
            content = {
                "gradients": first,
                "parameters": flat_parameters(task),
                "strengths": {name: ada.p for name, ada in task.state.ada.items()},
                "statistics": task.state.statistics.summary(),
            }
            torch.save(content, target)


def record_gradients(task):
    found = {}
    for phase, guard in task.iteration.guards.items():
        average = guard.world.average_gradients

        def keep(gradients, name=phase.name, average=average):
            gradients = list(gradients)
            average(gradients)
            found[name] = torch.cat([gradient.flatten().clone() for gradient in gradients])

        guard.world = dataclasses.replace(guard.world)
        object.__setattr__(guard.world, "average_gradients", keep)
    return found


def flat_parameters(task):
    return {
        name: torch.cat([p.detach().flatten() for p in network.parameters()])
        for name, network in task.state.networks().items()
    }
