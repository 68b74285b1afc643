"""Shapes of arrays in annotations: jaxtyping's names where it is installed, else names that mean nothing. The verifier needs
NumPy alone. And the array that an array or a tensor is."""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Complex, Float, Int, Shaped
else:
    try:
        from jaxtyping import Bool, Complex, Float, Int, Shaped
    except ImportError:

        class _Named:
            """`Float[array, "m n"]` is the array."""

            def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
                return item[0]

        Bool = Complex = Float = Int = Shaped = _Named

__all__ = ["Bool", "Complex", "Float", "Int", "Shaped", "array"]


def array(values: Any) -> np.ndarray:
    """A NumPy array of an array or tensor, also one that requires a gradient; the same numbers."""
    torch = sys.modules.get("torch")  # who holds a tensor has loaded it
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        half = values.dtype == torch.bfloat16
        return (values.float() if half else values).numpy()
    return np.asarray(values)
