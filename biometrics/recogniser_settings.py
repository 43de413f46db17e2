"""What images a recogniser takes, and FILE.json, which says so beside its file."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dnnlib import config as configs
from dnnlib import files

FORMAT = "biface-recogniser"
HALF_RANGE = (127.5,)


class ChannelOrder(StrEnum):
    """What the channels of an image are to a network."""

    RGB = "rgb"
    BGR = "bgr"
    GREY = "grey"


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """The images that a network takes.

    Attributes:
        size: width and height that images are resized to: bilinear, antialiased.
        channels: 3 repeats grey, 1 takes the luma of colour, 4 is RGB and NIR together.
        order: of three channels.
        mean, std: of pixels 0..255, one number or one a channel; x becomes (x - mean) / std.
    """

    size: int
    channels: int = 3
    order: ChannelOrder = ChannelOrder.RGB
    mean: tuple[float, ...] = HALF_RANGE
    std: tuple[float, ...] = HALF_RANGE

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")
        if self.channels not in (1, 3, 4):
            raise ValueError(f"images have 1, 3 or 4 channels, the network takes {self.channels}")
        if self.order is ChannelOrder.BGR and self.channels != 3:
            raise ValueError(f"order bgr is of 3 channels, the network takes {self.channels}")
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if len(numbers) not in (1, self.channels):
                raise ValueError(f"{name} must be 1 number or {self.channels}, got {len(numbers)}")
            if len({*numbers}) == 1:
                object.__setattr__(self, name, numbers[:1])  # equal formats compare equal
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {min(self.std):g}")


@dataclass(frozen=True, kw_only=True)
class RecogniserSettings:
    """What stands beside a recogniser's file; None is as the file says, else ArcFace's convention.

    Attributes:
        size, order, mean, std: as of InputFormat; grey is one channel.
        centre: mean of embeddings of unit length that is subtracted, [E]; empty for none.
        centred_on: name of the data set whose mean it is.
    """

    size: int | None = None
    order: ChannelOrder | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    centre: tuple[float, ...] = ()
    centred_on: str = ""


def settings_path(path: Path) -> Path:
    """Return the file of the settings of a recogniser."""
    return path.with_name(f"{path.name}.json")


def read_settings(path: Path) -> RecogniserSettings:
    """Return what stands beside a recogniser's file. Raises: ValueError naming the settings."""
    beside = settings_path(path)
    if not beside.is_file():
        return RecogniserSettings()
    content = files.read_object(beside)
    if content.pop("format", None) != FORMAT:
        raise ValueError(
            f"{beside}: not the settings of a recogniser: its format is not {FORMAT!r}"
        )
    return configs.from_dict(RecogniserSettings, content, str(beside))


def write_settings(path: Path, settings: RecogniserSettings) -> Path:
    """Write the settings beside a recogniser's file; return where."""
    beside = settings_path(path)
    files.write_json(beside, {"format": FORMAT, **configs.to_dict(settings)})
    return beside
