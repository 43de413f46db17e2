"""Names and addresses of published snapshots, and where --resume finds a snapshot."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from dnnlib import downloads

BASE_URL = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/transfer-learning-source-nets"
PUBLISHED_SNAPSHOTS: Mapping[str, str] = MappingProxyType(
    {
        "ffhq256": "ffhq-res256-mirror-paper256-noaug.pkl",
        "ffhq512": "ffhq-res512-mirror-stylegan2-noaug.pkl",
        "ffhq1024": "ffhq-res1024-mirror-stylegan2-noaug.pkl",
        "celebahq256": "celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
        "lsundog256": "lsundog-res256-paper256-kimg100000-noaug.pkl",
    }
)


def find_snapshot(
    resume: str, *, may_fetch: bool = True, progress: downloads.Progress | None = None
) -> Path | None:
    """Return the file that --resume means: a path, a published name or an address.

    Args:
        resume: as the user gave it.
        may_fetch: fetch what is not on disk.
        progress: shows what has come.
    Returns: the file; None for one that would have to be fetched.
    Raises: FileNotFoundError; ValueError naming address and place where fetching fails.
    """
    name = PUBLISHED_SNAPSHOTS.get(resume)
    if name is None and not downloads.is_url(resume):
        path = Path(resume)
        if not path.is_file():
            names = ", ".join(PUBLISHED_SNAPSHOTS)
            raise FileNotFoundError(f"--resume: {path} is not a file, an address or one of {names}")
        return path
    url = resume if name is None else f"{BASE_URL}/{name}"
    try:
        if may_fetch:
            return downloads.fetch(url, name, progress)
        return downloads.find_cached(url, name)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"--resume={resume}: {error}") from error
