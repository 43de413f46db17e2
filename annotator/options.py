"""Options of annotate.py; no torch here, so that --help is fast."""

from dataclasses import dataclass
from pathlib import Path

from dnnlib.options import Device, Options, device_option, option


@dataclass(frozen=True, kw_only=True)
class AnnotatorOptions(Options):
    """Annotate images in the browser, with the interpreter's suggestions beside.

    Reads and writes the files of the GIMP way: image_N_mask.png and classes.json.
    """

    exp: Path | None = option(
        None,
        metavar="PATH",
        heading="Experiment",
        help="Experiment file, or a folder with train_datagan.json or generate.json. With it the"
        " interpreter is trained beside.",
    )
    network: Path | None = option(
        None,
        metavar="FILE",
        needs="exp",
        help="Snapshot, instead of the experiment's stylegan_checkpoint.",
    )
    drawn: Path | None = option(
        None,
        metavar="DIR",
        heading="Files",
        help="Output directory of make_training_data.py; by default drawn in the experiment's"
        " folder.",
    )
    annotations: Path | None = option(
        None, metavar="DIR", help="Folder of the masks; by default annotations beside --drawn."
    )
    classes: Path | None = option(
        None,
        metavar="JSON",
        help="List of name, color, aliases, mirror; by default classes.json of the annotations or"
        " beside them, or background, iris, pupil, sclera.",
    )
    members: int = option(
        3, ge=1, heading="Interpreter", metavar="MODELS", help="Members of the ensemble."
    )
    steps: int = option(500, ge=1, help="Limit of the training in steps.")
    device: Device = device_option()
    host: str = option(
        "127.0.0.1",
        heading="Server",
        help="Address to listen on; any other than 127.0.0.1 lets other machines in.",
    )
    port: int = option(8750, ge=0, le=65535, help="Port; 0 takes a free one.")
    open: bool = option(False, help="Open the page in the browser of this machine.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exp is None and self.drawn is None:
            raise ValueError("one of --exp and --drawn must say where the images are")
        if not self.host:
            raise ValueError("--host must be an address, 0.0.0.0 for all, got nothing")
