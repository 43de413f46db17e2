"""Names and addresses of published snapshots."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

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


def check_is_file(resume: str) -> Path:
    """Return the path of a snapshot.

    Raises: ValueError for a published name, with the address to fetch it from; FileNotFoundError.
    """
    if resume in PUBLISHED_SNAPSHOTS:
        raise ValueError(
            f"--resume={resume}: fetch {BASE_URL}/{PUBLISHED_SNAPSHOTS[resume]} and give the file"
        )
    path = Path(resume)
    if not path.is_file():
        raise FileNotFoundError(f"--resume: {path} is not a file")
    return path
