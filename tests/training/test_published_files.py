"""What --resume means: a file, a published name or an address."""

import pytest

from tests.helpers.web import serve
from training import transfer
from training.transfer import PUBLISHED_SNAPSHOTS, find_snapshot


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("BIFACE_OFFLINE", raising=False)
    return tmp_path / "cache" / "downloads"


def test_names_are_the_published_ones():
    assert list(PUBLISHED_SNAPSHOTS) == [
        "ffhq256",
        "ffhq512",
        "ffhq1024",
        "celebahq256",
        "lsundog256",
    ]


@pytest.mark.parametrize("name", PUBLISHED_SNAPSHOTS)
def test_published_names_are_fetched_and_kept_under_plain_names(cache, monkeypatch, name):
    file = PUBLISHED_SNAPSHOTS[name]
    with serve() as site:
        monkeypatch.setattr(transfer, "BASE_URL", f"{site.address}/nets")
        site.pages[f"/nets/{file}"] = b"networks"
        assert find_snapshot(name, may_fetch=False) is None
        assert site.requests == []
        assert find_snapshot(name) == cache / file
    assert find_snapshot(name, may_fetch=False).read_bytes() == b"networks"


def test_offline_says_where_to_put_the_file(cache, monkeypatch):
    monkeypatch.setenv("BIFACE_OFFLINE", "1")
    with pytest.raises(ValueError, match="--resume=ffhq256: https://") as error:
        find_snapshot("ffhq256")
    assert f"put the file to {cache / PUBLISHED_SNAPSHOTS['ffhq256']}" in str(error.value)


def test_files_and_their_addresses(tmp_path):
    path = tmp_path / "mine.pkl"
    path.write_bytes(b"x")
    assert find_snapshot(str(path)) == find_snapshot(path.as_uri()) == path


@pytest.mark.parametrize("resume", ["absent.pkl", "ffhq128", "file:///absent/net.pkl"])
def test_what_is_not_there_is_named(resume):
    with pytest.raises(FileNotFoundError, match=resume):
        find_snapshot(resume)
