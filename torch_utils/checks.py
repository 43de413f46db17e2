"""Shape contracts that always run."""

from torch import Tensor


def check_shape(name: str, tensor: Tensor | None, *expected: int | None) -> None:
    """Raise ValueError unless `tensor` has the expected shape; None stands for any length."""
    shape = None if tensor is None else list(tensor.shape)
    if (
        shape is None
        or len(shape) != len(expected)
        or any(wanted not in (None, got) for wanted, got in zip(expected, shape, strict=True))
    ):
        wanted_text = ", ".join("*" if wanted is None else str(wanted) for wanted in expected)
        found = "nothing" if shape is None else shape
        raise ValueError(f"{name} must have shape [{wanted_text}], got {found}")
