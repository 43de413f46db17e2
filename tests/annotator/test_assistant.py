import json
import math
import multiprocessing
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

from annotator.assistant import Assistant, _Worker
from tests.helpers.annotating import ROOT, Copier, mask_of, open_store, wait_until, write_drawn


@pytest.fixture
def store(tmp_path):
    store = open_store(write_drawn(tmp_path))
    store.save(0, mask_of(0))
    store.finish(0)
    return store


@pytest.fixture
def assistant(store):
    assistant = Assistant(partial(Copier, seconds=30), store)
    assistant.start()
    yield assistant
    assistant.close()


def phase(assistant):
    return assistant.describe()["phase"]


def test_cancelling_ends_the_process_and_another_is_ready(assistant):
    (first,) = multiprocessing.active_children()
    assistant.train()
    wait_until(lambda: assistant.describe()["done"] > 0)
    (left,) = (assistant._folder / ".work").iterdir()  # a temporary folder, in work
    assistant.cancel()
    assert not left.exists()
    wait_until(lambda: phase(assistant) == "ready")
    (second,) = multiprocessing.active_children()
    assert (first.is_alive(), first.pid != second.pid) == (False, True)


def test_a_process_that_ends_is_said_and_replaced(assistant):
    multiprocessing.active_children()[0].kill()
    wait_until(lambda: not multiprocessing.active_children())
    assistant.train()
    wait_until(lambda: assistant.describe()["done"] > 0)
    multiprocessing.active_children()[0].kill()
    wait_until(lambda: phase(assistant) == "failed")


def test_a_refusal_is_an_error_with_its_reason(store):
    with pytest.raises(ValueError, match="no such network"):
        Assistant(partial(Copier, refusal="no such network"), store).start()


def test_training_again_while_it_trains_and_what_is_kept(store):
    assistant = Assistant(partial(Copier, seconds=0.5), store)
    assistant.start()
    assistant.train()
    store.save(1, mask_of(1))
    store.finish(1)
    assistant.train()
    wait_until(lambda: phase(assistant) == "ready" and assistant.scores().keys() == {1, 2})
    assistant.close()
    again = Assistant(Copier, store)
    assert again.scores() == {1: 0.1, 2: 0.2}
    assert np.array_equal(again.suggestion(2)[0], mask_of(0))
    again.note_agreement(1)
    assert again.describe()["curve"][0]["trained_on"] == 1


def test_suggestions_of_another_interpreter_or_without_a_file_are_none(store):
    assistant = Assistant(Copier, store)
    assistant.start()
    assistant.train()
    wait_until(lambda: phase(assistant) == "ready" and assistant.scores().keys() == {1, 2})
    (store.folder / "suggestions" / "image_1_mask.png").unlink()
    assistant.note_agreement(1)
    assistant.note_agreement(2)
    assert [row["image"] for row in assistant.describe()["curve"]] == [2]
    assistant.close()
    other = Assistant(partial(Copier, count=4), store)
    other.start()
    assert (other.scores(), other.describe()["curve"]) == ({}, [])
    other.close()


def test_a_mask_that_cannot_be_read_when_its_turn_comes_is_said(store):
    assistant = Assistant(partial(Copier, seconds=0.5), store)
    assistant.start()
    assistant.train()
    wait_until(lambda: assistant.describe()["done"] > 0)
    assistant.train()
    (store.folder / "image_0_mask.png").write_bytes(b"nothing")
    wait_until(lambda: phase(assistant) == "failed")
    assert "image_0_mask.png" in assistant.describe()["message"]
    assistant.close()


ROW = {"image": 1, "trained_on": 1, "mean_iou": 0.5, "iou": [0.5, None]}


@pytest.mark.parametrize(
    "record",
    [
        [],
        {"scores": {"x": {"score": 0.1, "trained_on": 1}}, "curve": []},
        {"scores": {"1": 0.1}, "curve": []},
        {"scores": {"1": {"score": None, "trained_on": 1}}, "curve": []},
        {"scores": {}, "curve": [ROW | {"mean_iou": math.nan}]},
        {"scores": {}, "curve": [ROW | {"iou": 1}]},
        {"scores": {}, "curve": [{"image": 1}]},
    ],
    ids=json.dumps,
)
def test_a_damaged_record_is_refused_by_its_name(store, record):
    path = store.folder / "suggestions" / "record.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"scores": {}, "curve": [ROW]}))
    assert Assistant(Copier, store).describe()["curve"] == [ROW]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"record\.json"):
        Assistant(Copier, store)


def test_a_suggestion_that_cannot_be_written_is_said_until_the_next_training(store):
    in_the_way = store.folder / "suggestions" / "image_1_mask.png"
    in_the_way.mkdir(parents=True)
    assistant = Assistant(Copier, store)
    assistant.start()
    assistant.train()
    wait_until(lambda: not multiprocessing.active_children(), 5)
    wait_until(lambda: phase(assistant) == "failed")
    assert in_the_way.name in assistant.describe()["message"]
    in_the_way.rmdir()
    assistant.train()
    wait_until(lambda: assistant.scores().keys() == {1, 2} and phase(assistant) == "ready")
    assistant.close()


def test_two_who_train_at_once_start_one_process(assistant, monkeypatch):
    multiprocessing.active_children()[0].kill()
    wait_until(lambda: not multiprocessing.active_children())
    is_alive = _Worker.is_alive
    monkeypatch.setattr(_Worker, "is_alive", lambda w: (is_alive(w), time.sleep(0.2))[0])
    threads = [threading.Thread(target=assistant.train) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(multiprocessing.active_children()) == 1


def test_training_that_fails_is_said(store):
    store.save(0, np.zeros_like(mask_of(0)))
    assistant = Assistant(Copier, store)
    assistant.start()
    assistant.train()
    wait_until(lambda: phase(assistant) == "failed")
    assert assistant.describe()["message"] == "nothing is painted"
    assistant.close()


CODE = """
import multiprocessing, pathlib, sys, time
from functools import partial
from annotator.assistant import Assistant
from tests.helpers.annotating import Copier, open_store

if __name__ == "__main__":
    assistant = Assistant(partial(Copier, seconds=60), open_store(pathlib.Path(sys.argv[1])))
    assistant.start()
    assistant.train()
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(60)
"""


def test_a_training_dies_with_the_server_however_that_dies(store, tmp_path):
    (tmp_path / "serve.py").write_text(CODE)
    command = [sys.executable, str(tmp_path / "serve.py"), str(store.folder.parent)]
    environment = {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        number = int(server.stdout.readline())
        time.sleep(0.5)
        server.kill()
    wait_until(lambda: not is_running(number))


def is_running(number):
    """Tell whether a process is there and no zombie."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
