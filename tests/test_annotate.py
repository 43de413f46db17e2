"""annotate.py: options, what it refuses, and a session with the interpreter itself."""

import json
import socket

import numpy as np
import pytest
from click.testing import CliRunner

import annotate
from dnnlib.runs import lock_folder
from tests.helpers.annotating import CLASS_LIST, Client, Script, mask_of, wait_until, write_drawn
from tests.helpers.interpreters import paint_masks, write_workshop

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")


def run(*arguments, code=0):
    result = CliRunner().invoke(annotate.main, [str(value) for value in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_dry_run_finds_everything_from_the_experiment(tmp_path):
    write_drawn(tmp_path)
    (tmp_path / "generate.json").write_text("{}")
    found = json.loads(run("--exp", tmp_path, "--dry-run"))
    assert found["annotations"] == str(tmp_path / "annotations")
    assert found["classes"] == [entry["name"] for entry in CLASS_LIST]
    assert (found["images"], found["interpreter"]) == (3, True)
    assert not (tmp_path / "annotations").exists()
    (tmp_path / "exp").mkdir()
    experiment = tmp_path / "exp" / "train_datagan.json"
    experiment.write_text(json.dumps({"exp_dir": str(tmp_path)}))
    for path in (experiment, experiment.parent):
        assert json.loads(run("--exp", path, "--dry-run")) == found
    alone = json.loads(run("--drawn", tmp_path / "drawn", "--dry-run"))
    assert alone == {**found, "interpreter": False}


def test_what_is_refused(tmp_path):
    folder = write_drawn(tmp_path)
    assert "--exp and --drawn" in run(code=2)
    assert "--drawn" in run("--drawn", tmp_path / "nothing", code=2)
    assert "--exp" in run("--drawn", folder / "drawn", "--network", "net.pkl", code=2)
    other = folder / "other.json"
    other.write_text(json.dumps(CLASS_LIST[:1] + CLASS_LIST[3:]))
    (folder / "annotations").mkdir()
    (folder / "annotations" / "classes.json").write_text(json.dumps(CLASS_LIST))
    assert "generate.json" in run("--exp", folder, "--dry-run", code=2)
    assert "--host" in run("--drawn", folder / "drawn", "--host=", code=2)
    selection = (folder / "drawn" / "selection.json").read_text()
    (folder / "drawn" / "selection.json").write_text('{"images": [true]}')
    assert "selection.json" in run("--drawn", folder / "drawn", code=2)
    (folder / "drawn" / "selection.json").write_text(selection)
    assert "--classes" in run("--drawn", folder / "drawn", "--classes", other, code=2)
    with lock_folder(folder / "annotations"):
        assert "another process" in run("--drawn", folder / "drawn", "--port=0", code=2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port}" in run("--drawn", folder / "drawn", "--port", port, code=2)


def test_an_interpreter_that_refuses_ends_the_script(tmp_path):
    write_drawn(tmp_path)
    (tmp_path / "generate.json").write_text('{"unknown": 1}')
    assert "generate.json" in run("--exp", tmp_path, "--port=0", code=2)
    for name in ("generate.json", "train_datagan.json"):
        (tmp_path / name).write_text('{"unknown": 1}')
    assert "train_datagan.json" in run("--exp", tmp_path, "--port=0", code=2)


def test_a_session_with_the_interpreter(tmp_path):
    workshop = write_workshop(tmp_path)
    paint_masks(workshop / "annotations", [3])
    script = Script("--exp", workshop / "exp.json", "--port=0", "--steps=20", "--members=2")
    client = Client(script.address)
    status = [image["state"] for image in client.json("api/state")["images"]]
    assert status == ["empty"] * 3 + ["done"] + ["empty"] * 2
    client.json("api/assistant/train", "POST")
    wait_until(lambda: client.json("api/state")["assistant"]["phase"] == "ready")
    state = client.json("api/state")
    scores = [image["score"] for image in state["images"]]
    others = [score for number, score in enumerate(scores) if number != 3]
    assert scores[3] is None
    assert scores[state["proposed"]] == max(others)
    labels = np.frombuffer(client.ask("api/suggestions/0")[1][: 16 * 16], np.uint8)
    assert set(labels) <= {0, 1, 2}
    mask = mask_of(0, 16) % 3
    client.ask("api/masks/0", "PUT", mask.tobytes())
    curve = client.json("api/masks/0/done", "POST")["assistant"]["curve"]
    assert [(row["image"], row["trained_on"]) for row in curve] == [(0, 1)]
    assert script.stop() == 0
