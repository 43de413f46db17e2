"""Fetching: once, whole or not at all, and one clear line where it cannot be done."""

import hashlib
import json
import socket
import threading

import pytest

from dnnlib import downloads
from dnnlib.downloads import download_folder, fetch, find_cached, is_url
from tests.helpers.web import send, serve

CONTENT = bytes(range(256)) * 4000  # several blocks


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("BIFACE_OFFLINE", raising=False)
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    return tmp_path / "cache" / "downloads"


@pytest.fixture
def site():
    with serve() as site:
        site.pages["/a/net.pkl"] = CONTENT
        yield site


def kept(cache):
    """Return the names of whole files and of leftovers, without locks."""
    names = [path.name for path in cache.iterdir()] if cache.is_dir() else []
    return sorted(name for name in names if not name.endswith(".lock"))


def test_file_is_fetched_once_and_recorded(site, cache):
    url = f"{site.address}/a/net.pkl"
    assert find_cached(url, "net.pkl") is None
    path = fetch(url, "net.pkl")
    assert path == cache / "net.pkl"
    assert path.read_bytes() == CONTENT
    record = json.loads((cache / "net.pkl.json").read_text())
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert record == {"url": url, "size": len(CONTENT), "sha256": digest}
    assert fetch(url, "net.pkl") == find_cached(url, "net.pkl") == path
    assert site.requests == ["/a/net.pkl"]
    assert kept(cache) == ["net.pkl", "net.pkl.json"]


def test_equal_names_of_other_addresses_are_kept_apart(site):
    site.pages["/b/net.pkl"] = b"other"
    first, second = fetch(f"{site.address}/a/net.pkl"), fetch(f"{site.address}/b/net.pkl")
    assert first != second
    assert first.name.endswith("_net.pkl")
    assert second.read_bytes() == b"other"


def test_progress_tells_what_has_come(site):
    calls = []

    def progress(done, total):
        calls.append((done, total))
        return calls.append

    fetch(f"{site.address}/a/net.pkl", progress=progress)
    assert calls[0] == (0, len(CONTENT))
    assert sum(calls[1:]) == len(CONTENT)
    assert len(calls) > 2


def test_length_need_not_be_declared(site):
    site.pages["/x"] = lambda handler: send(handler, CONTENT, length=False)
    assert fetch(f"{site.address}/x").read_bytes() == CONTENT


def test_passing_failures_are_tried_again(site):
    answers = iter([{"status": 503}, {"length": 10**6}, {}])
    site.pages["/x"] = lambda handler: send(handler, b"whole", **next(answers))
    assert fetch(f"{site.address}/x").read_bytes() == b"whole"
    assert len(site.requests) == 3


@pytest.mark.parametrize(
    ("page", "reason", "requests"),
    [
        (lambda h: send(h, b"", status=404), "404", 1),
        (lambda h: send(h, b"", status=500), "500", 3),
        (lambda h: send(h, b"some", length=9), "4 of 9 bytes came", 3),
        (lambda h: send(h, b"<html>", kind="text/html; charset=utf-8"), "web page", 3),
    ],
)
def test_what_fails_leaves_nothing(site, cache, page, reason, requests):
    site.pages["/net.pkl"] = page
    with pytest.raises(ValueError, match=f"cannot be fetched .*{reason}") as error:
        fetch(f"{site.address}/net.pkl", "net.pkl")
    assert f"put the file to {cache / 'net.pkl'}" in str(error.value)
    assert f"{site.address}/net.pkl" in str(error.value)
    assert len(site.requests) == requests
    assert kept(cache) == []


def test_unreachable_host(cache):
    with socket.socket() as closed:  # a port that nobody listens on
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/net.pkl"
        with pytest.raises(ValueError, match="cannot be fetched .*refused.*put the file to"):
            fetch(url)
    assert kept(cache) == []


@pytest.mark.parametrize("value", ["1", "true"])
def test_offline_fetches_nothing_but_uses_what_is_there(site, cache, monkeypatch, value):
    monkeypatch.setenv("BIFACE_OFFLINE", value)
    with pytest.raises(ValueError, match="BIFACE_OFFLINE forbids fetching: put the file to"):
        fetch(f"{site.address}/a/net.pkl", "net.pkl")
    assert site.requests == []
    cache.mkdir(parents=True)
    (cache / "net.pkl").write_bytes(b"put there by hand")
    assert fetch(f"{site.address}/a/net.pkl", "net.pkl") == cache / "net.pkl"


def test_offline_zero_means_online(site, monkeypatch):
    monkeypatch.setenv("BIFACE_OFFLINE", "0")
    assert fetch(f"{site.address}/a/net.pkl").read_bytes() == CONTENT


def test_several_at_once_fetch_once(site):
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(fetch(f"{site.address}/a/net.pkl")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1
    assert len(paths) == 4
    assert site.requests == ["/a/net.pkl"]


def test_a_changed_file_is_noticed(site, cache):
    url = f"{site.address}/a/net.pkl"
    path = fetch(url, "net.pkl")
    for content in (b"short", CONTENT[::-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="net.pkl is not the file that was fetched: delete it"):
            fetch(url, "net.pkl")
    (cache / "net.pkl.json").unlink()
    assert fetch(url, "net.pkl") == path


def test_folder_is_the_environments(tmp_path, monkeypatch):
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "theirs"))
    assert download_folder() == tmp_path / "cache" / "downloads"
    monkeypatch.delenv("BIFACE_CACHE_DIR")
    assert download_folder() == tmp_path / "theirs" / "downloads"
    monkeypatch.delenv("DNNLIB_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert download_folder() == tmp_path / "home" / ".cache" / "biface" / "downloads"


def test_file_addresses_are_the_file_itself(tmp_path, cache):
    path = tmp_path / "my net.pkl"
    path.write_bytes(b"x")
    assert fetch(path.as_uri()) == path
    assert kept(cache) == []
    with pytest.raises(FileNotFoundError, match="absent.pkl: no such file"):
        fetch((tmp_path / "absent.pkl").as_uri())


@pytest.mark.parametrize(
    "url", ["ftp://host/net.pkl", "http:///net.pkl", "data://x", "javascript://x"]
)
def test_other_addresses_are_refused(url):
    assert is_url(url)
    with pytest.raises(ValueError, match="an address must be of http, https, file, with a host"):
        fetch(url)
