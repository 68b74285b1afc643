"""Shapes of arrays in annotations: jaxtyping's names where it is installed, else names that mean nothing. The verifier needs
NumPy alone. Also: the array that an array or a tensor is, and how objects that hold arrays show themselves."""

import sys
from dataclasses import fields
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

__all__ = ["Bool", "Complex", "Float", "Int", "Shaped", "array", "few", "said", "short"]


def array(values: Any) -> np.ndarray:
    """A NumPy array of an array or tensor, also one that requires a gradient; the same numbers."""
    torch = sys.modules.get("torch")  # who holds a tensor has loaded it
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        half = values.dtype == torch.bfloat16
        return (values.float() if half else values).numpy()
    return np.asarray(values)


FEW = 6
"""Entries that are shown; of longer arrays and tuples the size is."""


def short(self: Any) -> str:
    """The `__repr__` of a data class that holds arrays: one line, each long array by its type and shape."""
    said = (f"{f.name}={few(getattr(self, f.name))}" for f in fields(self) if f.repr)
    return f"{type(self).__name__}({', '.join(said)})"


def few(value: Any) -> str:
    """A value in a few words: long arrays by their type and shape, long tuples by their length."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        if value.ndim <= 1 and len(value.ravel()) <= FEW:
            return str(value.tolist())
        return f"<{' × '.join(map(str, value.shape))} {str(value.dtype).removeprefix('torch.')}>"
    if isinstance(value, tuple | list | dict) and len(value) > FEW:
        return f"<{len(value)} entries>"
    if isinstance(value, tuple | list):
        inside = ", ".join(map(few, value)) + ("," if len(value) == 1 and isinstance(value, tuple) else "")
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {few(v)}" for k, v in value.items()) + "}"
    return repr(value)


LONGEST = 60
"""Characters of a value that a sentence repeats; of longer ones it says the type."""


def said(value: Any) -> str:
    """A value in a few words: itself where it is short, else its type."""
    text = few(value)
    return text if len(text) <= LONGEST and "\n" not in text else f"of type `{type(value).__name__}`"
