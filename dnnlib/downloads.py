"""Files from addresses: fetched once, whole or not at all, and kept in a folder of the user's.

Environment: BIFACE_CACHE_DIR (or DNNLIB_CACHE_DIR, as published systems call it) is the folder
whose `downloads` keeps the files, by default ~/.cache/biface; BIFACE_OFFLINE=1 fetches nothing.
"""

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import filelock

from dnnlib import files

# Takes how many bytes are there and how many there will be; returns what counts further ones.
Progress = Callable[[int, int], Callable[[int], None]]

TIMEOUT_SEC = 30.0
ATTEMPTS = 3
_BLOCK_BYTES = 1 << 18

_log = logging.getLogger(__name__)


def is_url(text: str) -> bool:
    """Tell whether a text is an address rather than a path.

    >>> is_url("https://host/file.pkl"), is_url("C:/file.pkl"), is_url("runs/file.pkl")
    (True, False, False)
    """
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.isalpha()


def download_folder() -> Path:
    """Return the folder that keeps fetched files, as the environment says."""
    chosen = os.environ.get("BIFACE_CACHE_DIR") or os.environ.get("DNNLIB_CACHE_DIR")
    return Path(chosen or "~/.cache/biface").expanduser() / "downloads"


def find_cached(url: str, name: str | None = None) -> Path | None:
    """Return the file of an address if it needs no fetching, else None.

    Args:
        url: http, https or file.
        name: a plain name under which the file may lie too, for addresses that are published.
    Raises: ValueError for an address of another kind, or a kept file that has changed since it was
        fetched; FileNotFoundError where a file:// address leads nowhere.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        path = Path(urllib.request.url2pathname(parts.path))
        if not path.is_file():
            raise FileNotFoundError(f"{url}: no such file")
        return path
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url}: an address must be of http, https, file, with a host")
    for path in (_kept_as(url, name), _kept_as(url, None)):
        if path.is_file():
            _check_record(path)
            return path
    return None


def fetch(url: str, name: str | None = None, progress: Progress | None = None) -> Path:
    """Return the file of an address, from disk if it is there, otherwise fetched to there.

    Several processes that ask at once fetch once. Beside the file lies a record of its address,
    size and SHA-256, with which later uses are compared; a file that a person put there has none.

    Args:
        url: http, https or file.
        name: plain name to keep it under; None for one that is made of the address.
        progress: shows what has come.
    Raises: ValueError naming address and place where the file can be put by hand, when it cannot
        be fetched; FileNotFoundError for a file:// address that leads nowhere.
    """
    cached = find_cached(url, name)
    if cached is not None:
        return cached
    target = _kept_as(url, name)
    by_hand = f"put the file to {target} or name it by its path"
    if os.environ.get("BIFACE_OFFLINE", "0").lower() not in ("", "0", "false", "no"):
        raise ValueError(f"{url} is not here and BIFACE_OFFLINE forbids fetching: {by_hand}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(f".{target.name}.lock")):
        try:
            if find_cached(url, name) is None:  # no other process was faster
                _fetch_patiently(url, target, progress)
        except (OSError, http.client.HTTPException) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{url} cannot be fetched ({reason}): {by_hand}") from error
    return target


def _kept_as(url: str, name: str | None) -> Path:
    """Return where a file is kept; without a name, as published systems do."""
    last = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name or "file"
    digest = hashlib.md5(url.encode(), usedforsecurity=False).hexdigest()
    return download_folder() / (name or f"{digest}_{last}")


def _fetch_patiently(url: str, target: Path, progress: Progress | None) -> None:
    """Try again what another attempt may not meet."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch_once(url, target, progress)
            break
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            if attempt == ATTEMPTS or 400 <= getattr(error, "code", 0) < 500:
                raise
            time.sleep(attempt)


def _fetch_once(url: str, target: Path, progress: Progress | None) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "biface"})  # noqa: S310  # checked
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT_SEC) as response,  # noqa: S310
        files.atomic_write(target) as file,
    ):
        if response.headers.get_content_type() == "text/html":  # a login or a confirmation
            raise OSError("a web page came instead of a file")
        _log.info("fetching %s to %s", url, target)
        declared = response.length
        advance = None if progress is None else progress(0, declared or 0)
        while block := response.read(_BLOCK_BYTES):
            file.write(block)
            if advance is not None:
                advance(len(block))
        size = file.tell()
        if declared not in (None, size):
            raise OSError(f"{size} of {declared} bytes came")
    record = {"url": url, "size": size, "sha256": files.sha256_file(target)}
    files.write_json(_record_of(target), record)


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _check_record(path: Path) -> None:
    """Compare a kept file with what was fetched. Raises: ValueError where they differ."""
    if not _record_of(path).is_file():
        return
    record = files.read_json(_record_of(path))
    size = record.get("size") if isinstance(record, dict) else None
    if size != path.stat().st_size or record.get("sha256") != files.sha256_file(path):
        raise ValueError(
            f"{path} is not the file that was fetched: delete it to fetch it again, or delete"
            f" {_record_of(path).name} to keep yours"
        )
