"""Writes moving images; a library does the encoding."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dnnlib import files

_PILLOW_FORMATS = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG", ".apng": "PNG"}
_FFMPEG_SUFFIXES = (".mp4",)
_MILLISECONDS = 1000

Frames = Iterable[np.ndarray[Any, np.dtype[np.uint8]]]


def check_video(path: Path) -> None:
    """Raise ValueError unless a video of this name can be written."""
    suffix = path.suffix.lower()
    if suffix not in (*_PILLOW_FORMATS, *_FFMPEG_SUFFIXES):
        known = ", ".join((*_FFMPEG_SUFFIXES, *_PILLOW_FORMATS))
        raise ValueError(f"--video {path}: the name must end in one of {known}")
    if suffix in _FFMPEG_SUFFIXES:
        _import_ffmpeg(path)


def save_video(path: Path, frames: Frames, fps: float) -> None:
    """Write frames [H, W, 3] uint8 as a video that repeats where the format can say so.

    Raises: ValueError for an unknown ending, or for .mp4 without the library imageio-ffmpeg.
    """
    check_video(path)
    if path.suffix.lower() in _FFMPEG_SUFFIXES:
        _save_ffmpeg(path, frames, fps)
        return
    first, *others = [Image.fromarray(frame) for frame in frames]
    with files.atomic_write(path) as file:
        first.save(
            file,
            format=_PILLOW_FORMATS[path.suffix.lower()],
            save_all=True,
            append_images=others,
            duration=_MILLISECONDS / fps,
            loop=0,
        )


def _save_ffmpeg(path: Path, frames: Frames, fps: float) -> None:
    writer, ffmpeg = None, _import_ffmpeg(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".video") as folder:
        temporary = Path(folder) / path.name
        for frame in frames:
            if writer is None:
                size = frame.shape[1], frame.shape[0]
                writer = ffmpeg.write_frames(str(temporary), size, fps=fps, macro_block_size=2)
                writer.send(None)
            writer.send(np.ascontiguousarray(frame))
        if writer is not None:
            writer.close()
            temporary.replace(path)


def _import_ffmpeg(path: Path) -> Any:
    try:
        import imageio_ffmpeg  # noqa: PLC0415  # optional
    except ImportError as error:
        raise ValueError(
            f"--video {path}: for .mp4 install it with `pip install imageio-ffmpeg`,"
            " or choose a name ending in .gif, .webp or .apng"
        ) from error
    return imageio_ffmpeg
