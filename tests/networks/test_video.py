"""Videos: frames come back from the file, and a missing library says what to install."""

import sys

import numpy as np
import pytest
from PIL import Image

from networks.video import check_video, save_video


def frames(count=5):
    values = np.linspace(0, 255, count).astype(np.uint8)
    return [np.full((8, 16, 3), value, np.uint8) for value in values]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng", ".png", ".GIF"])
def test_frames_come_back(tmp_path, suffix):
    path = tmp_path / f"deep/video{suffix}"
    save_video(path, iter(frames()), 25)
    with Image.open(path) as video:
        assert video.n_frames == 5
        assert video.size == (16, 8)
        assert video.info["loop"] == 0
        for index, frame in enumerate(frames()):
            video.seek(index)
            found = np.asarray(video.convert("RGB")).astype(int)
            assert np.abs(found - frame).max() <= 3
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_unknown_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--video.*\.avi.*\.mp4, \.gif"):
        check_video(tmp_path / "video.avi")


def test_missing_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match="pip install imageio-ffmpeg"):
        save_video(tmp_path / "video.mp4", iter(frames()), 25)
    assert not list(tmp_path.iterdir())


def test_mp4(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is optional")
    save_video(tmp_path / "video.mp4", iter(frames()), 25)
    assert ffmpeg.count_frames_and_secs(str(tmp_path / "video.mp4"))[0] == 5
    assert [entry.name for entry in tmp_path.iterdir()] == ["video.mp4"]
