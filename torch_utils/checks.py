"""Shape contracts that always run."""

from torch import Tensor


def check_shape(name: str, tensor: Tensor, *expected: int | None) -> None:
    """Raise ValueError unless `tensor` has the expected shape; None stands for any length."""
    shape = tuple(tensor.shape)
    fits = len(shape) == len(expected) and all(
        wanted is None or wanted == got for wanted, got in zip(expected, shape, strict=True)
    )
    if not fits:
        wanted_text = ", ".join("*" if wanted is None else str(wanted) for wanted in expected)
        raise ValueError(f"{name} must have shape [{wanted_text}], got {list(shape)}")
