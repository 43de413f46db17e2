"""Labels what a generator shows, for whoever has feature maps and no experiment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from data.class_list import ClassList
from interpreter.ensemble import load_models, models_sha256
from interpreter.experiment import check_origin
from interpreter.features import feature_layout
from interpreter.native import Labelling, NativeInterpreter
from interpreter.training import class_list_of
from networks.generator import Generator
from torch_utils.checkpoints import state_sha256


class Labeller:
    """Trained models and the classes that they know.

    Attributes:
        classes: names and colours.
    """

    def __init__(self, folder: Path, generator: Generator) -> None:
        """Read the models of a folder.

        Raises: FileNotFoundError; ValueError where they were trained on another generator.
        """
        models = load_models(folder)
        origin = {"network_sha256": state_sha256(generator.state_dict())}
        check_origin(models.identity, origin, f"{folder}: the models were trained")
        ensemble = models.ensemble.to(generator.mapping.w_avg.device)
        self._native = NativeInterpreter(ensemble, feature_layout(generator.config))
        self._sha256 = models_sha256(models.ensemble)
        self.classes: ClassList = class_list_of(
            models.identity.get("classes"), self._native.classes
        )

    def identity(self) -> dict[str, Any]:
        """Return what decides the labels, as plain JSON values."""
        return {"models_sha256": self._sha256}

    def __call__(self, maps: Sequence[Tensor]) -> Labelling:
        """Label one image by its feature maps, [C, side, side] float32 each."""
        return self._native.label(maps)
