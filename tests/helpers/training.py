"""The smallest training runs that still go through every phase."""

from pathlib import Path

from dnnlib.options import StoppedError
from tests.helpers.configs import training_options
from tests.helpers.images import write_pairs
from training.jobs import prepare

STEPS = 4
BATCH = 1000 // STEPS


def tiny_options(data, outdir, **changes):
    """8x8 pixels, 4 channels, one kimg in four iterations, every regulariser every second one."""
    values = {
        "cbase": 32,
        "cmax": 4,
        "w_dim": 4,
        "z_dim": 4,
        "map_depth": 2,
        "batch": BATCH,
        "mbstd_group": 5,
        "g_reg_interval": 2,
        "d_reg_interval": 2,
        "kimg": 1,
        "aug": "fixed",
        "p": 0.2,
        "mirror": True,
        "device": "cpu",
        "workers": 0,
        **changes,
    }
    return training_options(data=Path(data), outdir=Path(outdir), **values)


def tiny_data(root):
    return write_pairs(root, size=8)


def run(options, *, on_step=None):
    """Train in this process; return whether to the end, and the number of steps of this call.

    `on_step` is called with the number of steps so far.
    """
    steps = []

    def progress(*_):
        def advance(count):
            steps.append(count)
            if on_step is not None:
                on_step(len(steps))

        return advance

    try:
        prepare(options).train(progress)
    except StoppedError:
        return False, len(steps)
    return True, len(steps)


def run_folder(outdir):
    (folder,) = sorted(Path(outdir).glob("0*"))
    return folder
