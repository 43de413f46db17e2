"""Each trainer's script as users start it: SIGTERM and SIGKILL amid a run, then once more."""

import importlib
import signal

import pytest

from tests.helpers.interpreters import write_workshop
from tests.helpers.labelled import write_generated
from tests.helpers.processes import Fork, run_script
from tests.helpers.refinement import write_real, write_rendered
from tests.helpers.training import tiny_data

OFTEN = "--checkpoint-minutes=0.00001"  # after every step


def segmentation(folder):
    data, val = write_generated(folder / "data", 8), write_generated(folder / "val", 5)
    line = (f"--data={data}", f"--val={val}", "--width=4", "--depth=2", "--steps=40", "--every=15",
            "--batch=4", "--shift=0.1")  # fmt: skip
    return line, ("segmenter.pth", "segmenter_best.pth")


def refiner(folder):
    data, real = write_rendered(folder / "a"), write_real(folder / "b")
    line = (f"--data={data}", f"--real={real}", "--width=4", "--blocks=1", "--patch-width=0.1",
            "--steps=40", "--discriminator-warmup=5", "--batch=4", "--history=6",
            "--snap=20")  # fmt: skip
    return line, ("refiner.pt", "before_after.png")


def recognition(folder):
    data = write_real(folder / "faces")
    line = (f"--data={data}", "--backbone=r18", "--width=0.0625", "--embedding=8", "--size=16",
            "--batch=2", "--epochs=10", "--dropout=0.2", "--sample-rate=0.7", "--workers=1",
            "--memory-gib=0")  # fmt: skip
    return line, ("recogniser.pth",)


def gan(folder):
    data = tiny_data(folder / "data")
    line = (f"--data={data}", "--cbase=32", "--cmax=4", "--w-dim=4", "--z-dim=4", "--map-depth=2",
            "--batch=100", "--mbstd-group=5", "--gamma=1", "--ema-kimg=1", "--kimg=1",
            "--workers=1", "--cache=0")  # fmt: skip
    return line, ("network-snapshot-000001.pkl", "fakes000001.png")


def interpreter(folder):
    write_workshop(folder, max_steps=100, evaluate_every=5, patience=100)
    return (f"--exp={folder / 'exp.json'}",), ("model_0.pth", "model_1.pth")


def interrupt(script, line, sent):
    """Send a script a signal after its first step; return its exit code and what it said."""
    fork, log = Fork(run_script, script, *line, OFTEN), ""
    while not ("first" in log and "took" in log):
        text = fork.written.readline()
        assert text, log
        log += text
    code, rest = fork.end(sent)  # also the workers, as clusters and terminals do
    return code, log + rest


def finish(script, line):
    """Run a script's command to its end in this process."""
    importlib.import_module(script).main(list(line), standalone_mode=False)


@pytest.mark.parametrize(
    ("script", "prepare"),
    [
        ("train_db_stylegan2", gan),
        ("train_segmentation", segmentation),
        ("train_refiner", refiner),
        ("train_recognition", recognition),
        ("train_interpreter", interpreter),
    ],
)
def test_a_trainer_continues_to_the_same_bytes(script, prepare, tmp_path):
    line, results = prepare(tmp_path)
    line = (*line, "--device=cpu")
    finish(script, (*line, f"--outdir={tmp_path / 'whole'}"))
    torn = (*line, f"--outdir={tmp_path / 'torn'}")
    code, log = interrupt(script, torn, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, log
    assert "the same command continues" in log
    code, log = interrupt(script, torn, signal.SIGKILL)
    assert code == -signal.SIGKILL, log
    assert "continuing at" in log
    assert not list((tmp_path / "torn").rglob(results[0]))
    finish(script, torn)
    for name in results:
        (whole,), (continued,) = ([*(tmp_path / part).rglob(name)] for part in ("whole", "torn"))
        assert whole.read_bytes() == continued.read_bytes(), name
