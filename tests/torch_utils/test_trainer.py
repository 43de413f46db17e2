"""The training loop: equal bytes after any interruption, records, signals, bad gradients."""

import errno
import gc
import json
import math
import multiprocessing
import signal
import sys

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

from dnnlib.options import StoppedError
from dnnlib.runs import find_output
from tests.helpers.processes import Fork
from torch_utils.distributed import World
from torch_utils.guarded_step import GuardedStep
from torch_utils.seeding import generator_for
from torch_utils.trainer import (
    CHECKPOINT_FILE,
    STATS_FILE,
    Cadence,
    Task,
    Trainer,
    start_workers,
    train,
)

CPU = torch.device("cpu")
STEPS = 12


class Line(Task):
    """Fits y = 2 x + 1 by SGD with momentum."""

    def __init__(self, steps=STEPS, at_step=None, spoilt=()):
        super().__init__(steps, CPU)
        self.network = nn.Linear(1, 1)
        nn.init.zeros_(self.network.weight)
        nn.init.zeros_(self.network.bias)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)
        self.guards = [GuardedStep("line", CPU, "lower --lr", max_bad_steps=3)]
        self.at_step, self.spoilt, self.validations = at_step, spoilt, 0

    def step(self, index):
        if self.at_step:
            self.at_step(index)
        x = torch.randn([8, 1], generator=generator_for(0, "x", index))
        loss = (self.network(x) - 2 * x - 1).square().mean()
        loss = loss * math.nan if index in self.spoilt else loss
        loss.backward()
        self.statistics.report("Progress/nonfinite_steps", self.guards[0].step(self.optimizer))
        self.statistics.report("Loss/total", loss)

    def networks(self):
        return {"line": self.network}

    def validate(self, folder):
        self.validations += 1
        return {"weight": float(self.network.weight.detach())}

    def export(self, folder):
        torch.save(self.network.state_dict(), folder / "line.pt")
        return {"exported": True}

    def state_dict(self):
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


class Killed(BaseException):
    pass


def kill_at(step):
    def at_step(index):
        if index == step:
            raise Killed

    return at_step


def opened(path):
    return find_output(path, "record.json", {"test": 1}, fresh=False)


def run(path, *, row_steps=5, checkpoint_rows=1, minutes=0.0, progress=None, **options):
    cadence = Cadence(
        row_steps=row_steps, checkpoint_rows=checkpoint_rows, checkpoint_minutes=minutes
    )
    return train(Line(**options), opened(path), cadence, progress=progress)


def rows(path):
    """Rows of a folder without what a clock or the memory says."""
    lines = [json.loads(line) for line in (path / STATS_FILE).read_text().splitlines()]
    measured = ("Timing/", "Resources/", "timestamp")
    return [{k: v for k, v in row.items() if not k.startswith(measured)} for row in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "out"
    assert run(path)["exported"]
    return path


def assert_same(path, whole):
    assert (path / "line.pt").read_bytes() == (whole / "line.pt").read_bytes()
    assert rows(path) == rows(whole)
    assert opened(path).is_finished
    assert not (path / CHECKPOINT_FILE).exists()


def test_rows_have_one_schema(whole):
    found = rows(whole)
    assert [row["Progress/step"]["mean"] for row in found] == [5, 10, 12]
    assert [row["Loss/total"]["num"] for row in found] == [5, 5, 2]
    assert all(set(entry) == {"num", "mean", "std"} for row in found for entry in row.values())
    assert {"Progress/nonfinite_steps", "Metrics/weight"} < found[0].keys()
    last = json.loads((whole / "record.json").read_text())["result"]
    assert last["Loss/total"] == found[-1]["Loss/total"]["mean"]
    assert last["Timing/total_sec"] > 0


def test_a_full_disk_loses_nothing(whole, tmp_path, monkeypatch):
    def full(_file):
        raise OSError(errno.ENOSPC, "no room")

    def fill_at(index):
        if index == 7:
            monkeypatch.setattr("dnnlib.files.os.fsync", full)

    with pytest.raises(OSError, match=CHECKPOINT_FILE):
        run(tmp_path / "out", at_step=fill_at, minutes=1e-9)
    monkeypatch.undo()
    began = []
    run(tmp_path / "out", progress=lambda done, *_: began.append(done))
    assert_same(tmp_path / "out", whole)
    assert began == [7]


@pytest.mark.parametrize("step", [0, 3, 5, 7, 11])
@pytest.mark.parametrize("minutes", [0.0, 1e-9])
def test_a_killed_training_continues_to_the_same_bytes(whole, tmp_path, step, minutes):
    with pytest.raises(Killed):
        run(tmp_path / "out", at_step=kill_at(step), minutes=minutes)
    with (tmp_path / "out" / STATS_FILE).open("a") as file:
        file.write('{"torn": ')  # by a kill amid a row that no checkpoint knows
    began = []
    run(tmp_path / "out", progress=lambda done, total, _unit: began.append((done, total)))
    assert_same(tmp_path / "out", whole)
    assert began == [(step if minutes else step // 5 * 5, STEPS)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 4, 9])
def test_a_signal_ends_it_with_a_checkpoint(whole, tmp_path, number, step, caplog):
    before = signal.getsignal(number)
    handler = lambda index: signal.raise_signal(number) if index == step else None  # noqa: E731
    with caplog.at_level("INFO"), pytest.raises(StoppedError) as stopped:
        run(tmp_path / "out", at_step=handler)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    assert f"stopped at step {step + 1};" in caplog.text
    assert not opened(tmp_path / "out").is_finished
    state = torch.load(tmp_path / "out" / CHECKPOINT_FILE, weights_only=True)
    assert state["step"] == step + 1
    run(tmp_path / "out")
    assert_same(tmp_path / "out", whole)


def test_a_stop_amid_bad_gradients_waits_for_their_end(tmp_path):
    at_step = lambda index: signal.raise_signal(signal.SIGTERM) if index == 2 else None  # noqa: E731
    with pytest.raises(StoppedError):
        run(tmp_path / "out", at_step=at_step, spoilt=(2, 3))
    assert torch.load(tmp_path / "out" / CHECKPOINT_FILE, weights_only=True)["step"] == 5


def test_a_signal_at_the_last_step_changes_nothing(whole, tmp_path):
    at_step = lambda index: signal.raise_signal(signal.SIGTERM) if index == 11 else None  # noqa: E731
    assert run(tmp_path / "out", at_step=at_step)["exported"]
    assert_same(tmp_path / "out", whole)


def test_a_later_signal_ends_the_process_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("torch_utils.trainer._SAME_REQUEST_SEC", -1.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background

    def at_step(_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", at_step=at_step)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_kill_between_export_and_record_exports_again(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(Line, "export", lambda self, folder: kill_at(0)(0))
    with pytest.raises(Killed):
        run(tmp_path / "out")
    monkeypatch.undo()
    run(tmp_path / "out")
    assert_same(tmp_path / "out", whole)


def test_all_processes_read_a_finished_training_before_one_removes_it(tmp_path, monkeypatch):
    monkeypatch.setattr(Line, "export", lambda self, folder: kill_at(0)(0))
    with pytest.raises(Killed):
        run(tmp_path / "out")
    monkeypatch.undo()
    calls = []
    monkeypatch.setattr(World, "barrier", lambda self: calls.append("barrier"))
    monkeypatch.setattr(Line, "load_state_dict", lambda self, state: calls.append("read"))
    monkeypatch.setattr(Line, "export", lambda self, folder: calls.append("export") or {})
    run(tmp_path / "out")
    assert calls[-3:] == ["read", "barrier", "export"]


@pytest.mark.parametrize(("every", "saved"), [(1, [5, 10, 12]), (2, [5, 12]), (0, [12])])
def test_checkpoints_of_rows(tmp_path, monkeypatch, every, saved):
    steps = []
    save = Trainer._save
    monkeypatch.setattr(Trainer, "_save", lambda self: (steps.append(self.index), save(self)))
    run(tmp_path / "out", checkpoint_rows=every)
    assert steps == saved


def test_single_bad_gradients_are_repaired_and_counted(tmp_path):
    run(tmp_path / "out", spoilt=(1, 2, 6))
    counted = [row["Progress/nonfinite_steps"] for row in rows(tmp_path / "out")]
    assert [entry["num"] * entry["mean"] for entry in counted] == pytest.approx([2, 1, 0])
    losses = [row["Loss/total"]["mean"] for row in rows(tmp_path / "out")]
    assert [loss is None for loss in losses] == [True, True, False]  # NaN is no JSON


def test_a_bad_last_step_does_not_cost_the_training(tmp_path):
    assert run(tmp_path / "out", spoilt=(11,))["result"]["Loss/total"] is None
    assert opened(tmp_path / "out").is_finished


def test_bad_gradients_that_persist_end_it_and_leave_the_last_good_state(tmp_path):
    with pytest.raises(FloatingPointError, match="line: .* 4 steps in a row .limit 3. at step 9"):
        run(tmp_path / "out", spoilt=range(5, 20), minutes=1e-9)
    state = torch.load(tmp_path / "out" / CHECKPOINT_FILE, weights_only=True)
    assert state["step"] == 5
    assert len(rows(tmp_path / "out")) == 1


def test_weights_that_are_not_finite_end_it(tmp_path):
    task = Line()

    def spoil(index):
        if index == 7:
            with torch.no_grad():
                task.network.bias.fill_(math.inf)

    task.at_step = spoil
    with pytest.raises(FloatingPointError, match="line: weights are no longer finite at step 10"):
        train(task, opened(tmp_path / "out"), Cadence(row_steps=5, checkpoint_minutes=0))
    assert torch.load(tmp_path / "out" / CHECKPOINT_FILE, weights_only=True)["step"] == 5


def test_other_checkpoints_are_refused(tmp_path):
    (tmp_path / "out").mkdir()
    opened(tmp_path / "out").begin()
    torch.save({"step": 3}, tmp_path / "out" / CHECKPOINT_FILE)
    with pytest.raises(ValueError, match="not a biface-training"):
        run(tmp_path / "out")


def test_folder_is_kept_from_other_processes(tmp_path):
    with (
        opened(tmp_path / "out").at_work(),
        pytest.raises(ValueError, match="another process"),
    ):
        run(tmp_path / "out")


def test_tensorboard_shows_the_rows_that_count(tmp_path):
    cadence = Cadence(row_steps=5, checkpoint_rows=2, checkpoint_minutes=0)
    with pytest.raises(Killed):  # rows at 5 and 10, a checkpoint at 5
        Trainer(Line(at_step=kill_at(11)), tmp_path, cadence, has_tensorboard=True).run()
    (first,) = tmp_path.glob("events.*")  # read by name: its second, and a number of the process
    first.rename(tmp_path / "events.out.tfevents.0000000000")
    Trainer(Line(), tmp_path, cadence, has_tensorboard=True).run()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("Loss/total")] == [5, 10, 12]


def exit_with_a_worker():
    batches = start_workers(DataLoader(range(8), num_workers=2))
    next(batches)
    exit_with_a_worker.kept = batches  # as the traceback of an error does
    sys.exit(3)


def test_workers_end_with_their_process():
    fork = Fork(exit_with_a_worker)
    fork.process.join(60)
    code = fork.process.exitcode
    _, text = fork.end(signal.SIGKILL)
    assert code == 3, text
    assert "Traceback" not in text


class Begun(Dataset):
    """Tells which worker was begun by the loader's own function."""

    begun = None

    def __len__(self):
        return 4

    def __getitem__(self, _index):
        return self.begun


def note(worker):
    get_worker_info().dataset.begun = worker


def test_workers_begin_as_their_loader_says_and_are_forgotten_with_it():
    before = len(multiprocessing.util._finalizer_registry)
    for _ in range(2):
        loader = DataLoader(Begun(), num_workers=2, batch_size=2, worker_init_fn=note)
        assert [batch.tolist() for batch in start_workers(loader)] == [[0, 0], [1, 1]]
    del loader
    gc.collect()
    assert len(multiprocessing.util._finalizer_registry) == before
