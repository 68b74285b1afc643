r"""The input box of a VNN-LIB property: all inputs that its assertions about X allow lie in it.

A property (https://www.vnnlib.org, version 1) is a list of SMT-LIB assertions about inputs `X_i` and outputs `Y_j` of a network.
Here `X_i <= c`, `>=`, `<`, `>`, `=`, `and` and `or` are read; an `or` becomes the smallest box around its cases. What is said of
outputs, or of inputs in another way, leaves the box larger, never smaller. Decimals are rounded outward.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import inf, isfinite, nextafter
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import UnreadableFile
from sdplip.shapes import Float
from sdplip.weights.content import opened
from sdplip.weights.damaged import refuse_damaged

LARGEST = 1 << 25
"""Bytes of the largest property that is read: 32 MB."""
DEEPEST = 32
"""Expressions in one another, at most."""
TOKEN = re.compile(r";[^\n]*|\s+|([()]|[^\s();]+)")
RELATIONS = {
    "<=": (False, True),
    "<": (False, True),
    ">=": (True, False),
    ">": (True, False),
    "=": (True, True),
}
"""Which ends of `X_i` a relation to a number on its right is about: the lower one, the upper one."""
Ends = Mapping[int, tuple[float, float]]
"""The interval of some inputs; the others are free."""


@dataclass(frozen=True, eq=False)
class InputBox:
    """The inputs of a property.

    Attributes:
        lower, upper: ends of each input, in the order of their numbers.
        exact: whether the property is about all of the box; else it is about a part of it.
    """

    lower: Float[np.ndarray, " n"]
    upper: Float[np.ndarray, " n"]
    exact: bool


def read_input_box(path: str | PathLike[str]) -> InputBox:
    """The box of a `.vnnlib` or `.vnnlib.gz` file.

    Raises:
        UnreadableFile: missing, too large, no property of version 1, an input without an end, or no inputs at all.
    """
    path = Path(path)
    with refuse_damaged(path, "a VNN-LIB property"):
        reading = _Reading(path)
        for form in _forms(_text(path)):
            reading.take(form)
        return reading.box()


def _text(path: Path) -> str:
    try:
        with opened(path) as stream:
            whole = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise UnreadableFile(f"There is no file `{path}`. Check the path.") from None
    if len(whole) > LARGEST:
        raise UnreadableFile(f"`{path}` holds more than {LARGEST >> 20} MB, too much for a property.")
    return whole.decode("utf-8")


def _forms(text: str) -> Iterator[list[Any]]:
    """The expressions at the top, as nested lists of words."""
    stack: list[list[Any]] = []
    for match in TOKEN.finditer(text):
        word = match[1]
        if word == "(":
            stack.append([])
            if len(stack) > DEEPEST:
                raise ValueError(f"it nests more than {DEEPEST} expressions")
        elif word == ")":
            if not stack:
                raise ValueError("a parenthesis closes nothing")
            form = stack.pop()
            if stack:
                stack[-1].append(form)
            else:
                yield form
        elif word is not None:
            if not stack:
                raise ValueError(f"{word[:20]!r} stands outside of parentheses")
            stack[-1].append(word)
    if stack:
        raise ValueError("a parenthesis is open at its end")


class _Reading:
    """What was declared and asserted so far."""

    def __init__(self, path: Path):
        self.path = path
        self.inputs = 0
        self.ends: dict[int, tuple[float, float]] = {}
        self.exact = True

    def take(self, form: list[Any]) -> None:
        match form:
            case ["declare-const" | "declare-fun", str(name), *_, "Real"]:
                kind, number = _variable(name) or ("", -1)
                if kind == "X":
                    if number != self.inputs:
                        raise ValueError(f"`{name}` is declared where `X_{self.inputs}` should be")
                    self.inputs += 1
                elif kind != "Y":
                    raise ValueError(f"`{name[:20]}` is neither an input X_i nor an output Y_j")
            case ["assert", condition]:
                self._narrow(self._ends(condition))
            case ["check-sat" | "set-logic" | "set-info" | "set-option" | "exit" | "get-model", *_]:
                pass
            case _:
                what = str(form[0])[:30] if form else "()"
                raise ValueError(f"`{what}` is no part of a property of version 1")

    def box(self) -> InputBox:
        if not self.inputs:
            raise ValueError("it declares no input X_0")
        free = next(
            (k for k in range(self.inputs) if not all(map(isfinite, self.ends.get(k, (inf, inf))))), None
        )
        if free is not None:
            raise UnreadableFile(
                f"`{self.path}` leaves `X_{free}` without two finite ends, so it is about no box. Add its ends."
            )
        lower, upper = np.array([self.ends[k] for k in range(self.inputs)]).T
        if (lower > upper).any():
            raise UnreadableFile(
                f"`{self.path}` allows no input: `X_{int(np.argmax(lower > upper))}` has its ends in the wrong order."
            )
        return InputBox(lower.copy(), upper.copy(), self.exact)

    def _narrow(self, ends: Ends | None) -> None:
        if ends is None:
            raise UnreadableFile(f"`{self.path}` allows no input: no case of an `or` does.")
        _narrowed(self.ends, ends)

    def _ends(self, condition: Any) -> Ends | None:
        """The box of a condition; None where it allows no input."""
        match condition:
            case ["and", *parts]:
                found: dict[int, tuple[float, float]] = {}
                for part in parts:
                    ends = self._ends(part)
                    if ends is None:
                        return None
                    _narrowed(found, ends)
                return None if any(low > high for low, high in found.values()) else found
            case ["or", *parts]:
                cases = [ends for ends in map(self._ends, parts) if ends is not None]
                self.exact &= len(cases) == 1 or all(ends == cases[0] for ends in cases)
                return _hull(cases)
            case [str(relation), left, right] if relation in RELATIONS:
                return self._relation(relation, left, right)
            case _:
                self._note(condition)
                return {}

    def _relation(self, relation: str, left: Any, right: Any) -> Ends:
        below, above = RELATIONS[relation]
        name, number = left, right
        if _input(left) is None and _input(right) is not None:
            name, number, below, above = right, left, above, below
        k, value = _input(name), _number(number)
        if k is None or value is None:
            self._note([left, right])
            return {}
        if k >= self.inputs:
            raise ValueError(f"`X_{k}` is not declared")
        return {k: (_down(value) if below else -inf, _up(value) if above else inf)}

    def _note(self, condition: Any) -> None:
        """What is said of inputs in another way leaves the box too large."""
        if _speaks_of_inputs(condition):
            self.exact = False


def _narrowed(found: dict[int, tuple[float, float]], ends: Ends) -> None:
    for k, (low, high) in ends.items():
        before = found.get(k, (-inf, inf))
        found[k] = max(before[0], low), min(before[1], high)


def _hull(cases: list[Ends]) -> Ends | None:
    if not cases:
        return None
    shared = set(cases[0]).intersection(*cases[1:])
    return {k: (min(ends[k][0] for ends in cases), max(ends[k][1] for ends in cases)) for k in shared}


def _speaks_of_inputs(condition: Any) -> bool:
    if isinstance(condition, list):
        return any(map(_speaks_of_inputs, condition))
    return _input(condition) is not None


def _variable(word: Any) -> tuple[str, int] | None:
    match = re.fullmatch(r"([XY])_(\d{1,9})", word) if isinstance(word, str) else None
    return (match[1], int(match[2])) if match else None


def _input(word: Any) -> int | None:
    kind, number = _variable(word) or ("", -1)
    return number if kind == "X" else None


def _number(word: Any) -> Decimal | None:
    match word:
        case ["-", part]:
            value = _number(part)
            return None if value is None else -value
        case str():
            try:
                value = Decimal(word)
            except InvalidOperation:
                return None
            return value if value.is_finite() else None
        case _:
            return None


def _down(value: Decimal) -> float:
    near = float(value)
    return near if not isfinite(near) or Decimal(near) <= value else nextafter(near, -inf)


def _up(value: Decimal) -> float:
    near = float(value)
    return near if not isfinite(near) or Decimal(near) >= value else nextafter(near, inf)
