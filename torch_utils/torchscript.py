"""Networks from TorchScript files.

Such a file is a program of PyTorch's own operations; nothing of Python is run.
"""

import warnings
from pathlib import Path

import torch


def load_torchscript(path: Path, device: torch.device | str) -> torch.jit.ScriptModule:
    """Read a module that is only used, not trained.

    Raises: FileNotFoundError; ValueError where the file is no TorchScript module.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            # PyTorch wants other formats for new networks; published ones are in this one.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not a TorchScript module") from error
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()
