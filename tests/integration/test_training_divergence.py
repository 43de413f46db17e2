"""A run that diverges ends, and keeps the last checkpoint from before."""

import os
import signal

import pytest
import torch

from tests.helpers.training import tiny_data, tiny_options
from training.launch import make_plan
from training.loop import TrainingLoop
from training.phases import PhaseKind


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_data(tmp_path_factory.mktemp("data") / "set")


def build_loop(data, folder, progress):
    """Return a loop of four steps that saves after each; `progress` gets the loop and the step."""
    plan = make_plan(tiny_options(data, folder, checkpoint_minutes=1e-6))
    folder.mkdir(exist_ok=True)
    loop = TrainingLoop(
        plan.config,
        plan.run,
        folder,
        plan.dataset,
        progress=lambda _: progress(loop, loop.state.step),
    )
    return loop


def note_saves(loop):
    saved = []
    save = loop.save_checkpoint
    loop.save_checkpoint = lambda: (saved.append(loop.state.step), save())
    return saved


def count_bad_step(loop):
    guards = loop.iteration.guards.items()
    (guard,) = (guard for phase, guard in guards if phase.kind is PhaseKind.G_MAIN)
    guard.consecutive += 1


def test_weights_that_are_lost_do_not_replace_the_checkpoint(data, tmp_path):
    def lose(loop, step):
        if step == 3:
            with torch.no_grad():
                loop.state.ema.mapping.fc0.weight[0, 0] = torch.inf

    with pytest.raises(FloatingPointError, match="G_ema: weights are no longer finite at kimg 0.8"):
        build_loop(data, tmp_path, lose).run()
    again = build_loop(data, tmp_path, lambda *_: None)
    assert again.state.step == 2
    assert again.run()


def test_a_checkpoint_waits_for_the_end_of_bad_gradients(data, tmp_path):
    loop = build_loop(data, tmp_path, lambda loop, step: step == 2 and count_bad_step(loop))
    saved = note_saves(loop)
    assert loop.run()
    assert saved == [1, 3, 4]


def test_so_does_a_stop(data, tmp_path):
    def stop(loop, step):
        if step == 2:
            count_bad_step(loop)
            os.kill(os.getpid(), signal.SIGTERM)

    loop = build_loop(data, tmp_path, stop)
    saved = note_saves(loop)
    assert not loop.run()
    assert saved == [1, 3]
    assert build_loop(data, tmp_path, stop).state.step == 3
