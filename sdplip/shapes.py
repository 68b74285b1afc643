"""Shapes of arrays in annotations: jaxtyping's names where it is installed, else names that mean nothing. The verifier needs
NumPy alone."""

from typing import TYPE_CHECKING, Any

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

__all__ = ["Bool", "Complex", "Float", "Int", "Shaped"]
