"""dataset_card.md: what a generated data set is made of, how it was filtered, how it is cited."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dnnlib import files

CARD_FILE = "dataset_card.md"
_MAX_LISTED = 12
_LICENCE = (
    "None is stated in these files. What the licences of the training images and of the weights "
    "allow holds for what a generator makes of them: write it here before you pass the set on."
)
_PAPERS = {
    "generator": "StyleGAN2-ADA, Karras et al. 2020, arXiv:2006.06676; BiFaceGAN, in Face "
    "Recognition Across the Imaging Spectrum, Springer 2024",
    "interpreter": "BiOcularGAN, Tomašević et al. 2022, arXiv:2205.01536; DatasetGAN, Zhang et al. "
    "2021, arXiv:2104.06490",
    "identities": "ArcBiFaceGAN, Engineering Applications of Artificial Intelligence 133, 2024; "
    "ArcFace, Deng et al. 2019, arXiv:1801.07698",
    "refiner": "SimGAN, Shrivastava et al. 2017, arXiv:1612.07828",
}


def write_card(
    folder: Path,
    title: str,
    sections: Mapping[str, str | Mapping[str, Any]],
    *,
    papers: Sequence[str] = (),
    cited_file: str = "",
) -> None:
    """Write the card of a data set whose other files are there; equal facts give equal bytes.

    Args:
        folder: of the data set.
        title: of the card.
        sections: heading -> text, or facts as plain JSON values; None among these is left out.
        papers: whose methods were used, keys of `_PAPERS`.
        cited_file: whose SHA-256 names the set; "" for none.
    """
    lines = [f"# {title}"]
    for heading, content in sections.items():
        lines += ["", f"## {heading}", ""]
        if isinstance(content, str):
            lines.append(content)
        else:
            rows = [f"| {name} | {value} |" for name, value in _flat(content)]
            lines += ["| | |", "|---|---|", *rows]
    lines += ["", "## Licence", "", _LICENCE, "", "## How to cite", ""]
    if cited_file:
        digest = files.sha256_file(folder / cited_file)
        lines.append(f"- this set: the SHA-256 of its {cited_file} is {digest}")
    lines += [f"- {_PAPERS[name]}" for name in papers]
    with files.atomic_write(folder / CARD_FILE, "w") as file:
        file.write("\n".join(lines) + "\n")


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and values in the form of a table's cells, nested ones as "a, b"."""
    for name, value in content.items():
        full = f"{above}, {name}" if above else str(name)
        if isinstance(value, Mapping):
            yield from _flat(value, full)
        elif isinstance(value, list | tuple):
            listed = ", ".join(map(_cell, value[:_MAX_LISTED]))
            yield full.replace("_", " "), listed if len(value) <= _MAX_LISTED else f"{len(value)}"
        elif value is not None:
            yield full.replace("_", " "), _cell(value)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return " ".join(str(value).replace("|", "\\|").split())
