"""Typed fields of run files: a value is converted to the field's type, checked against its range, or refused with the remedy.

A field's type is `bool`, `int`, `float`, `str`, a `Literal` of texts, a `tuple`, any of them or None, or a number with a `Range`.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from sdplip.errors import InvalidConfig


@dataclass(frozen=True)
class Range:
    """The numbers from `least` (itself excluded if `strict`) to `most`."""

    least: float = -math.inf
    most: float = math.inf
    strict: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.least < value if self.strict else self.least <= value) and value <= self.most

    def __str__(self) -> str:
        below = "above" if self.strict else "at least"
        return f"{below} {self.least:g}" + (f" and at most {self.most:g}" if self.most < math.inf else "")


Positive: TypeAlias = Annotated[float, Range(0, strict=True)]
NotNegative: TypeAlias = Annotated[float, Range(0)]
Count: TypeAlias = Annotated[int, Range(1)]
Number: TypeAlias = Annotated[int, Range(0)]
Share: TypeAlias = Annotated[float, Range(0, 1)]


def check(section: Any) -> None:
    """Convert every field of a frozen dataclass to its type (an `int` where a `float` is due, a list for a tuple), in place.

    Raises:
        InvalidConfig: wrong type, outside the range, or not one of the names; it says the key, the value, and what fits.
    """
    hints = typing.get_type_hints(type(section), include_extras=True)
    for field in dataclasses.fields(section):
        key = f"{table_name(type(section))}.{field.name}"
        value = convert(key, dataclasses.asdict(section)[field.name], hints[field.name])
        object.__setattr__(section, field.name, value)


def table_name(section: type) -> str:
    """`train` of `TrainConfig`."""
    return section.__name__.removesuffix("Config").lower()


def takes_array(section: type, name: str) -> bool:
    """Whether a field is an array, or one or None."""
    hint = typing.get_type_hints(section).get(name)
    return any(typing.get_origin(kind) is tuple for kind in (hint, *typing.get_args(hint)))


def nearest(name: str, names: Iterable[str]) -> str:
    """`Did you mean ...?`, or the list of the names if none is near."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean `{close[0]}`?" if close else f"Known: {', '.join(names)}."


def convert(key: str, value: object, hint: Any) -> Any:
    """`value` as the type `hint`; `key` is for the message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        number = convert(key, value, arguments[0])
        if number is not None and number not in arguments[1]:
            raise InvalidConfig(f"`{key}` must be {arguments[1]}, but is {value!r}.")
        return number
    if origin in (typing.Union, types.UnionType):
        if value is None or value == "none":
            return None
        return convert(key, value, next(a for a in arguments if a is not types.NoneType))
    if origin is Literal:
        if value not in arguments:
            raise InvalidConfig(
                f"`{key}` must be one of {', '.join(arguments)}, but is {value!r}."
                + (f" {nearest(value, arguments)}" if isinstance(value, str) else "")
            )
        return value
    if origin is tuple:
        return _tuple(key, value, arguments)
    return _scalar(key, value, hint)


def _tuple(key: str, value: object, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidConfig(f"`{key}` must be an array such as [...], but is {value!r}.")
    fixed = arguments[-1] is not Ellipsis
    if fixed and len(value) != len(arguments):
        raise InvalidConfig(f"`{key}` must have {len(arguments)} entries, but has {len(value)}: {value!r}.")
    types_ = arguments if fixed else (arguments[0],) * len(value)
    return tuple(convert(key, entry, hint) for entry, hint in zip(value, types_, strict=True))


def _scalar(key: str, value: object, kind: type) -> object:
    names = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a text"}
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidConfig(f"`{key}` must be {names[kind]}, but is {value!r}.")
    return value
