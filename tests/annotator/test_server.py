import json

import numpy as np
import pytest

from tests.helpers.annotating import (
    SIDE,
    Client,
    Copier,
    mask_of,
    open_store,
    serving,
    wait_until,
    write_drawn,
)

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from annotator.assistant import Assistant  # noqa: E402
from annotator.server import build_app  # noqa: E402

TOKEN = "abc"  # noqa: S105  # of a test


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all tests, each of which has an image of its own."""
    folder = write_drawn(tmp_path_factory.mktemp("annotating"), count=8)
    (folder / "secret.txt").write_text("secret")
    app = build_app(open_store(folder), None, token=TOKEN, name="faces", proposals=[2, 5])
    with serving(app) as address:
        yield folder, address


@pytest.fixture
def client(server):
    return Client(f"{server[1]}{TOKEN}/")


def test_masks_come_and_go_byte_by_byte(client, server):
    status, content, headers = client.ask("api/masks/0")
    assert (status, content) == (200, bytes(SIDE * SIDE))
    mask = mask_of(0)
    status, content, _ = client.ask("api/masks/0", "PUT", mask.tobytes(), If_Match=headers["ETag"])
    assert status == 200
    status, content, headers_after = client.ask("api/masks/0")
    assert (content, headers_after["ETag"] != headers["ETag"]) == (mask.tobytes(), True)
    assert np.array_equal(open_store(server[0]).mask(0), mask)
    status, content, _ = client.ask("api/masks/0", "PUT", bytes(SIDE**2), If_Match=headers["ETag"])
    assert status == 409
    assert client.ask("api/masks/0")[1] == mask.tobytes()


@pytest.mark.parametrize("content", [b"", bytes(5), bytes(SIDE**2 + 1), b"\4" * SIDE**2])
def test_a_mask_that_does_not_fit_is_refused(client, content):
    status, answer, _ = client.ask("api/masks/1", "PUT", content)
    assert (status, "error" in json.loads(answer)) == (400, True)
    assert client.json("api/state")["images"][1]["state"] == "empty"


def test_finishing_and_proposals(client):
    assert client.json("api/state")["proposed"] == 2
    client.ask("api/masks/2", "PUT", mask_of(2).tobytes())
    state = client.json("api/masks/2/done", "POST")
    assert (state["images"][2]["state"], state["proposed"]) == ("done", 5)
    exported = client.json("api/coco.json")
    assert [image["id"] for image in exported["images"]] == [2]
    assert client.json("api/masks/2/draft", "POST")["images"][2]["state"] == "draft"
    assert client.ask("api/masks/2/lost", "POST")[0] == 404


def test_without_token_host_or_name_there_is_nothing(client, server):
    folder, address = server
    for path in ("", "api/state", f"{TOKEN}x/api/state", "api/masks/0"):
        assert Client(address).ask(path)[0] == 404
    assert client.ask("api/state", Host="evil.example")[0] == 400
    for path in ("api/masks/99", "api/images/0/secret", "api/suggestions/0", "api/nothing"):
        assert client.ask(path)[0] == 404
    # The page's files lie in annotator/page.
    for path in ("../server.py", "..%2fserver.py", "%2e%2e/server.py", "%2e%2e%2fserver.py"):
        assert client.ask(path)[0] == 404
    assert client.ask("api/state", Host="[::1]:80")[0] == 200
    assert (
        client.ask("api/images/0/nir")[1]
        == (folder / "drawn/images_to_annotate/image_0_NIR.jpg").read_bytes()
    )


def test_the_page_asks_nobody_else(client):
    status, content, headers = client.ask("")
    assert (status, b"main.js" in content) == (200, True)
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    for name in ("main.js", "view.js", "paint.js", "api.js", "style.css", "index.html"):
        status, content, _ = client.ask(name)
        text = content.decode()
        assert (status, "https://" in text, "//cdn" in text) == (200, False, False)


def test_superpixels_are_connected_numbers(client):
    pytest.importorskip("skimage")
    status, content, _ = client.ask("api/superpixels/0?count=9")
    found = np.frombuffer(content, "<u2")
    assert (status, len(found)) == (200, SIDE * SIDE)
    assert set(found) == set(range(found.max() + 1))
    assert client.ask("api/superpixels/0?count=0")[0] == 400
    assert client.ask("api/superpixels/0?count=x")[0] == 400


def test_training_suggests_and_shows_how_well(tmp_path):
    store = open_store(write_drawn(tmp_path))
    assistant = Assistant(Copier, store)
    assistant.start()
    app = build_app(store, assistant, token=TOKEN, name="faces", proposals=[])
    with serving(app) as address:
        client = Client(f"{address}{TOKEN}/")
        assert client.ask("api/assistant/train", "POST")[0] == 400
        assert client.ask("api/assistant/close", "POST")[0] == 404
        client.ask("api/masks/0", "PUT", mask_of(0).tobytes())
        client.json("api/masks/0/done", "POST")
        client.json("api/assistant/train", "POST")
        wait_until(lambda: client.json("api/state")["assistant"]["phase"] == "ready")
        state = client.json("api/state")
        assert state["proposed"] == 2
        assert [image["score"] for image in state["images"]] == [None, 0.1, 0.2]
        content = client.ask("api/suggestions/2")[1]
        assert content[: SIDE**2] == mask_of(0).tobytes()
        expected = round(0.2 / np.log(4) * 65535) >> 8
        assert set(content[SIDE**2 :]) == {expected}
        client.ask("api/masks/2", "PUT", mask_of(0).tobytes())
        (row,) = client.json("api/masks/2/done", "POST")["assistant"]["curve"]
        assert row == {"image": 2, "trained_on": 1, "mean_iou": 1.0, "iou": [1.0] * 4}
