"""From the options of annotate.py to a server that runs until it is stopped."""

import logging
import secrets
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from annotator.assistant import Assistant
from annotator.options import AnnotatorOptions
from annotator.store import AnnotationStore
from data.class_list import CLASSES_FILE, ClassList, class_list_as_json, load_class_list
from data.mask_files import IMAGE_FOLDER, SELECTION_FILE, read_selection
from dnnlib import files
from dnnlib.extras import need
from dnnlib.options import Job, Progress
from dnnlib.runs import lock_folder

# Of a folder: the training's own settings go before those of generation.
EXPERIMENT_FILES = ("train_datagan.json", "generate.json")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotatorJob(Job):
    """A server whose files and options were checked."""

    options: AnnotatorOptions
    drawn: Path
    proposals: list[int]
    store: AnnotationStore
    assistant: Assistant | None

    def describe(self) -> dict[str, Any]:
        """Return folders and number of images, without the interpreter's checks."""
        return {
            "drawn": str(self.drawn),
            "annotations": str(self.store.folder),
            "images": len(self.store.images),
            "finished": [k for k, state in self.store.status().items() if state == "done"],
            "classes": list(self.store.classes.names),
            "interpreter": self.assistant is not None,
        }

    def run(self, progress: Progress) -> str | None:
        """Serve the page until SIGINT or SIGTERM.

        Raises: ValueError where the port is taken, or the interpreter refuses.
        """
        with _listen(self.options.host, self.options.port) as listener:
            self.store.folder.mkdir(parents=True, exist_ok=True)
            with lock_folder(self.store.folder):
                files.remove_parts(self.store.folder)
                if self.assistant is not None:
                    _log.info("loading the interpreter ...")
                    self.assistant.start()
                self._serve(listener)
        count = list(self.store.status().values()).count("done")
        return f"{self.store.folder}: {count} finished masks"

    def _serve(self, listener: socket.socket) -> None:
        import uvicorn  # noqa: PLC0415  # optional

        from annotator.server import LOOPBACK, build_app  # noqa: PLC0415  # optional

        host, token = self.options.host, secrets.token_urlsafe(16)
        shown = f"[{host}]" if ":" in host else host
        app = build_app(
            self.store,
            self.assistant,
            token=token,
            name=self.drawn.resolve().parent.name,
            proposals=self.proposals,
            hosts=LOOPBACK if shown in LOOPBACK else None,  # which names others know is not known
        )
        address = f"http://{shown}:{listener.getsockname()[1]}/{token}/"
        _log.info("%s\nCtrl-C ends; every stroke is saved", address)
        if self.options.open:
            webbrowser.open(address)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=2
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            return


def prepare(options: AnnotatorOptions, load_interpreter: Callable[..., Any]) -> AnnotatorJob:
    """Check files and options.

    Args:
        options: as the user gave them.
        load_interpreter: makes what `Assistant` trains, of exp, network, drawn, classes, members,
            steps and device; another process is given it.
    Raises: FileNotFoundError; ValueError naming the file or option that does not fit.
    """
    need("the page", "starlette", "uvicorn")
    exp, home = _find_experiment(options.exp)
    drawn = options.drawn or home / "drawn"
    folder = options.annotations or drawn.parent / "annotations"
    classes = _find_classes(options.classes, folder)
    store = AnnotationStore(drawn / IMAGE_FOLDER, folder, classes)
    selection = drawn / SELECTION_FILE
    proposals = read_selection(selection) if selection.is_file() else []
    assistant = None
    if exp is not None:
        load = partial(
            load_interpreter,
            exp=exp,
            network=options.network,
            drawn=drawn,
            classes=classes,
            members=options.members,
            steps=options.steps,
            device=options.device,
        )
        assistant = Assistant(load, store)
    return AnnotatorJob(
        options=options, drawn=drawn, proposals=proposals, store=store, assistant=assistant
    )


def _find_experiment(path: Path | None) -> tuple[Path | None, Path]:
    """Return the experiment file, if there is one, and the experiment's folder."""
    if path is None:
        return None, Path()
    file, folder = path, Path()
    if path.is_dir():
        candidates = [path / name for name in EXPERIMENT_FILES]
        file, folder = next((p for p in candidates if p.is_file()), candidates[-1]), path
    return file, Path(str(files.read_object(file).get("exp_dir", folder)))


def _find_classes(path: Path | None, folder: Path) -> ClassList:
    """Return the class list of --classes, or else that of the annotations or beside them.

    Raises: ValueError where the annotations have another list than --classes.
    """
    own = folder / CLASSES_FILE
    if path is not None:
        classes = load_class_list(path)
        if own.is_file() and class_list_as_json(load_class_list(own)) != class_list_as_json(
            classes
        ):
            raise ValueError(f"--classes {path}: {own} has other classes")
        return classes
    found = [p for p in (own, folder.parent / CLASSES_FILE) if p.is_file()]
    return load_class_list(found[0]) if found else ClassList()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises: ValueError where that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")
    except OSError as error:
        raise ValueError(f"--host {host} --port {port}: {error.strerror}") from error
