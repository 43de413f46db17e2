"""Optional libraries: what is missing is named before work begins."""

import importlib.util


def need(what: str, *libraries: str) -> None:
    """Check that optional libraries are installed.

    Args:
        what: needs them, such as a file.
        libraries: by the names that they are imported by.
    Raises: ValueError that says what to install.
    """
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(name.replace("_", "-") for name in missing)
        raise ValueError(f"{what} needs {names}: pip install -r requirements-extras.txt")
