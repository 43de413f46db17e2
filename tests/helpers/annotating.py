"""Folders of images to annotate, an interpreter that knows the answer, and a running server."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from annotator.store import AnnotationStore
from data.class_list import class_list_from_json

ROOT = Path(__file__).resolve().parents[2]
SIDE = 24
CLASS_LIST = [
    {"name": "background", "color": [0, 0, 0]},
    {"name": "left", "color": [255, 0, 0], "mirror": "right"},
    {"name": "right", "color": [0, 0, 255], "mirror": "left"},
    {"name": "<b>mouth</b>", "color": [0, 255, 0]},
]
CLASSES = class_list_from_json(CLASS_LIST, "here")


def write_drawn(folder, count=3, side=SIDE):
    """What make_training_data.py writes, as far as the annotator reads it."""
    images = folder / "drawn" / "images_to_annotate"
    images.mkdir(parents=True)
    for number in range(count):
        rgb = np.random.default_rng(number).integers(0, 256, [side, side, 3], np.uint8)
        Image.fromarray(rgb).save(images / f"image_{number}.jpg")
        Image.fromarray(rgb[..., 0]).save(images / f"image_{number}_NIR.jpg")
    (folder / "drawn" / "selection.json").write_text(json.dumps({"images": [2, 0]}))
    (folder / "classes.json").write_text(json.dumps(CLASS_LIST))
    return folder


def open_store(folder):
    return AnnotationStore(folder / "drawn" / "images_to_annotate", folder / "annotations", CLASSES)


def mask_of(number, side=SIDE):
    return np.random.default_rng(100 + number).integers(0, len(CLASSES), [side, side], np.uint8)


class Copier:
    """Suggests the smallest mask it has learnt for all images; of image k it is k/10 uncertain."""

    def __init__(self, count=3, seconds=0.0, refusal=""):
        if refusal:
            raise ValueError(refusal)
        self.count, self.seconds = count, seconds

        self.identity = {"count": count}

    def suggest(self, masks, progress):
        advance = progress(0, 100, "step")
        with tempfile.TemporaryDirectory():
            for _ in range(100):
                time.sleep(self.seconds / 100)
                advance(1)
        learnt = masks[min(masks)]
        if learnt.max() == 0:
            raise ValueError("nothing is painted")
        for number in range(self.count):
            if number not in masks:
                uncertainty = np.full(learnt.shape, number / 10, np.float32)
                yield number, learnt, uncertainty, number / 10


def load_copier(**_options):
    return Copier(count=4, seconds=3)


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.02)


class Client:
    """Asks a server below an address that ends with its token and a slash."""

    def __init__(self, address):
        _, _, self.host, self.root = address.split("/", 3)

    def ask(self, path, method="GET", data=None, **headers):
        """Return status, content and headers."""
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        connection = http.client.HTTPConnection(self.host, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, f"/{self.root}{path}", data, names)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers

    def json(self, path, method="GET"):
        status, content, _ = self.ask(path, method)
        assert status == 200, content
        return json.loads(content)


@contextlib.contextmanager
def serving(app):
    """Run an application while the block runs; yields http://127.0.0.1:PORT/."""
    import uvicorn  # noqa: PLC0415  # optional

    config = uvicorn.Config(app, port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


class Script:
    """annotate.py in a process of its own, once it has said its address."""

    def __init__(self, *arguments, code="import annotate; annotate.main()"):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if found := re.search(r"http://\S+", line):
                self.address = found[0]
                return
        self.process.wait()
        raise AssertionError("".join(lines))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def stop(self):
        """Stop it as Ctrl-C does; return its exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        self.process.stderr.close()
        return code
