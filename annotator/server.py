"""The server of the page: one folder of images, one of annotations, nothing else of the machine."""

import hashlib
import importlib.util
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from annotator import coco, superpixels
from annotator.assistant import Assistant
from annotator.store import AbsentError, AnnotationStore, ConflictError, version

PAGE = Path(__file__).parent / "page"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def build_app(
    store: AnnotationStore,
    assistant: Assistant | None,
    *,
    token: str,
    name: str,
    proposals: list[int],
    hosts: tuple[str, ...] | None = LOOPBACK,
) -> Starlette:
    """Return the server's application.

    Args:
        store: the files.
        assistant: the interpreter beside, or None.
        token: first part of every address; without it everything is absent.
        name: shown as the page's title.
        proposals: image numbers in the order of make_training_data.py's proposal.
        hosts: names under which it may be asked for, without port; None is any.
    """
    handlers = _Handlers(store, assistant, name, proposals)
    routes = [
        Route("/api/state", handlers.state),
        Route("/api/images/{number:int}/{modality}", handlers.image),
        Route("/api/masks/{number:int}", handlers.mask, methods=["GET"]),
        Route("/api/masks/{number:int}", handlers.save, methods=["PUT"]),
        Route("/api/masks/{number:int}/{state}", handlers.move, methods=["POST"]),
        Route("/api/suggestions/{number:int}", handlers.suggestion),
        Route("/api/superpixels/{number:int}", handlers.superpixels),
        Route("/api/assistant/{action}", handlers.assist, methods=["POST"]),
        Route("/api/coco.json", handlers.export),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        if assistant is not None:
            assistant.close()

    return Starlette(
        routes=[
            Route(f"/{token}", lambda _: RedirectResponse(f"/{token}/")),
            Mount(f"/{token}", routes=routes),
        ],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
        exception_handlers={
            AbsentError: _answer(404),
            FileNotFoundError: _answer(404),
            ConflictError: _answer(409),
            ValueError: _answer(400),
            OSError: _answer(507),
        },
        lifespan=lifespan,
    )


def _answer(status: int) -> Callable[[Request, Exception], Response]:
    def respond(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status)

    return respond


class _Headers:
    """Adds headers that keep the page to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for key, value in _HEADERS.items():
                    headers.setdefault(key, value)
            await send(message)

        await self._app(scope, receive, send_more)


class _Handlers:
    """Answers; those that are no coroutines run in threads."""

    def __init__(
        self,
        store: AnnotationStore,
        assistant: Assistant | None,
        name: str,
        proposals: list[int],
    ) -> None:
        self._store, self._assistant, self._name = store, assistant, name
        self._proposals = proposals
        self._superpixels = lru_cache(maxsize=32)(self._find_superpixels)
        self._one_search = threading.Lock()  # of superpixels, which take a core and much memory

    def state(self, _: Request) -> Response:
        """Tell what the page shows besides pixels."""
        store, assistant = self._store, self._assistant
        states, mirrored = store.status(), store.classes.mirrored()
        scores = {} if assistant is None else assistant.scores()
        content = {
            "name": self._name,
            "folder": hashlib.sha256(str(store.folder.resolve()).encode()).hexdigest()[:16],
            "classes": [
                {"name": entry.name, "colour": entry.colour, "mirror": mirror}
                for entry, mirror in zip(store.classes.classes, mirrored, strict=True)
            ],
            "images": [
                {
                    "number": number,
                    "width": pair.width,
                    "height": pair.height,
                    "modalities": list(pair.paths),
                    "state": states[number],
                    "score": None if states[number] == "done" else scores.get(number),
                }
                for number, pair in store.images.items()
            ],
            "proposed": self._propose(states, scores),
            "has_superpixels": importlib.util.find_spec("skimage") is not None,
            "assistant": None if assistant is None else assistant.describe(),
        }
        return JSONResponse(content)

    def image(self, request: Request) -> Response:
        """Return an image file."""
        number, modality = _number(request), request.path_params["modality"]
        path = self._store.pair(number).paths.get(modality)
        if path is None:
            raise AbsentError(f"there is no {modality} of image {number}")
        return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})

    def mask(self, request: Request) -> Response:
        """Return a mask, a byte a pixel, with its version."""
        mask = self._store.mask(_number(request))
        return Response(mask.tobytes(), headers={"ETag": version(mask)})

    async def save(self, request: Request) -> Response:
        """Take a mask, a byte a pixel, that changes the version in If-Match."""
        number = _number(request)
        pair, classes = self._store.pair(number), len(self._store.classes)
        content = b""
        async for part in request.stream():
            content += part
            if len(content) > pair.width * pair.height:
                break
        if len(content) != pair.width * pair.height:
            raise ValueError(f"a mask of image {number} has {pair.width * pair.height} bytes")
        mask = np.frombuffer(content, np.uint8).reshape(pair.height, pair.width)
        if int(mask.max()) >= classes:
            raise ValueError(f"classes must be below {classes}, got {int(mask.max())}")
        based_on = request.headers.get("If-Match")
        await run_in_threadpool(self._store.save, number, mask, based_on)
        return JSONResponse({"version": version(mask)})

    def move(self, request: Request) -> Response:
        """Finish a mask of the version in If-Match, or reopen one."""
        number, state = _number(request), request.path_params["state"]
        if state == "done":
            self._store.finish(number, request.headers.get("If-Match"))
            if self._assistant is not None:
                self._assistant.note_agreement(number)
        elif state == "draft":
            self._store.reopen(number)
        else:
            raise AbsentError(f"there is no state {state}")
        return self.state(request)

    def suggestion(self, request: Request) -> Response:
        """Return labels, then uncertainty where 255 is ln(classes), a byte a pixel each."""
        if self._assistant is None:
            raise AbsentError("there is no interpreter")
        labels, uncertainty = self._assistant.suggestion(_number(request))
        return Response(labels.tobytes() + (uncertainty >> 8).astype(np.uint8).tobytes())

    def superpixels(self, request: Request) -> Response:
        """Return the superpixel of each pixel, two bytes a pixel, little-endian."""
        count = int(request.query_params.get("count", "300"))
        return Response(self._superpixels(_number(request), count))

    def assist(self, request: Request) -> Response:
        """Train, or cancel that."""
        action = request.path_params["action"]
        if self._assistant is None or action not in ("train", "cancel"):
            raise AbsentError(f"there is no {action}")
        getattr(self._assistant, action)()
        return self.state(request)

    def export(self, _: Request) -> Response:
        """Return all finished masks in COCO's form."""
        headers = {"Content-Disposition": "attachment; filename=annotations_coco.json"}
        content = coco.export(self._store.images, self._store.finished_masks(), self._store.classes)
        return Response(json.dumps(content), media_type="application/json", headers=headers)

    def _find_superpixels(self, number: int, count: int) -> bytes:
        with self._one_search:
            found = superpixels.find_superpixels(self._store.pair(number).paths, count)
        return found.astype("<u2").tobytes()

    def _propose(self, states: dict[int, str], scores: dict[int, float]) -> int | None:
        """Return the image that is most worth painting next, drafts last.

        The one that the interpreter is least certain of; before it has seen any, the next of
        make_training_data.py's proposal.
        """
        left = [number for number, state in states.items() if state == "empty"]
        left = left or [number for number, state in states.items() if state == "draft"]
        if not left:
            return None
        if any(number in scores for number in left):
            return max(left, key=lambda number: scores.get(number, -1.0))
        return next((number for number in self._proposals if number in left), left[0])


def _number(request: Request) -> int:
    return request.path_params["number"]
