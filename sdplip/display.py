"""How results show themselves: one line, equality of what they say, and by name the packages that draw them.

Results stand far below the packages that draw. `html` and `figure` load those by name and only when they are called, so that
whoever never looks at a result in a notebook pays nothing, and the verifier, which ships without them, needs none.
"""

from dataclasses import fields
from enum import Enum
from importlib import import_module
from typing import Any

from sdplip.shapes import few


def brief(*names: str) -> Any:
    """A `__repr__` of one line: the type and these attributes, numbers with every digit, long arrays by type and shape."""

    def shown(self: Any) -> str:
        said = (f"{name}={_word(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({', '.join(said)})"

    return shown


def _word(value: Any) -> str:
    return value.name if isinstance(value, Enum) else few(value)


def equal(self: Any, other: object) -> bool:
    """The `__eq__` of a data class that holds arrays: same class, same fields, arrays entry by entry in the same type.

    Fields with `compare=False`, such as seconds, do not count.
    """
    if type(other) is not type(self):
        return NotImplemented
    return all(_same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.compare)


def _same(a: Any, b: Any) -> bool:
    if hasattr(a, "shape") and hasattr(a, "dtype"):
        alike = type(a) is type(b) and a.shape == b.shape and a.dtype == b.dtype
        return alike and bool((a == b).all())
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def hashed(self: Any) -> int:
    """The `__hash__` that goes with `equal`: of the fields that are numbers, texts or None."""
    plain = (getattr(self, f.name) for f in fields(self) if f.compare)
    return hash((type(self), *(v for v in plain if isinstance(v, int | float | str | bool | None))))


def html(self: Any) -> str | None:
    """The `_repr_html_` of a result; None where the package that draws is not there (the verifier by itself)."""
    try:
        drawn = import_module("sdplip.html")
    except ModuleNotFoundError:
        return None
    return drawn.fragment(self)


def figure(self: Any) -> Any:
    """The figure of a result, a `matplotlib.figure.Figure` that notebooks show; `sdplip.plot.save` writes it."""
    return import_module("sdplip.plot").drawing(self)
