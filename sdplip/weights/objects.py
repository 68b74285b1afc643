"""Lists of arrays as NumPy stores them, object arrays in `.npy`: the bytes of the pickle are read as data, nothing is unpickled.

# Note [no execution]: `pickletools` only cuts a pickle into its instructions. Here those are followed that build lists of arrays;
# what an instruction would call is compared with the names of NumPy's two makers and never looked up. Everything else stops.
"""

import pickletools
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np

ARRAY = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
DTYPE, LATIN, EMPTY = "numpy dtype", "_codecs encode", "__builtin__ bytes"
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
DATA = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
PUT, GET = {"BINPUT", "LONG_BINPUT", "PUT"}, {"BINGET", "LONG_BINGET", "GET"}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class Made:
    """What an instruction would have made: of which maker, from which arguments, in which state."""

    maker: str
    arguments: Any
    state: Any = None


class _Name(str):
    """The name of something that a pickle would call."""


_MARK = object()


def array_list(stream: IO[bytes]) -> list[np.ndarray]:
    """The arrays of a list that was saved as an object array of one axis, from where its pickle begins.

    Raises:
        ValueError: anything else.
    """
    whole = _followed(stream)
    if not isinstance(whole, Made) or whole.maker not in ARRAY:
        raise ValueError("no array")
    _, shape, kind, _, entries = _state(whole)
    if not isinstance(entries, list) or shape != (len(entries),) or _code(kind) != "O8":
        raise ValueError("no list")
    return [_array(entry) for entry in entries]


def _array(entry: Any) -> np.ndarray:
    if not isinstance(entry, Made) or entry.maker not in ARRAY:
        raise ValueError("an entry is no array")
    _, shape, kind, by_columns, data = _state(entry)
    code, order = _code(kind), kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "|"
    if (
        code[:1] not in "fiub"
        or not code[1:].isdecimal()
        or int(code[1:]) > 16
        or order not in ("<", ">", "|")
    ):
        raise ValueError(f"an entry of type {code[:20]}")
    dtype = np.dtype(code).newbyteorder("=" if order == "|" else order)
    if not (isinstance(data, bytes) and all(type(n) is int and n >= 0 for n in shape)):
        raise ValueError("an entry without numbers")
    if prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes of an array {shape}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns is True else "C")


def _state(made: Made) -> tuple[Any, ...]:
    if not (isinstance(made.state, tuple) and len(made.state) == 5 and isinstance(made.state[1], tuple)):
        raise ValueError("an array without state")
    return made.state


def _code(kind: Any) -> str:
    if not isinstance(kind, Made) or kind.maker != DTYPE or not isinstance(kind.arguments, tuple):
        raise ValueError("an array without type")
    return str(kind.arguments[0]) if kind.arguments else ""


def _followed(stream: IO[bytes]) -> Any:
    """What the instructions build."""
    stack, memo = list[Any](), dict[int, Any]()
    for code, argument, _ in pickletools.genops(stream):
        name, place = code.name, argument if isinstance(argument, int) else 0
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            (whole,) = stack
            return whole
        if name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in PUT:
            memo[place] = stack[-1]
        elif name in GET:
            stack.append(memo[place])
        else:
            _step(name, argument, stack)
    raise ValueError("no end")


def _step(name: str, argument: Any, stack: list[Any]) -> None:
    """One instruction that works on the stack alone.

    Raises:
        ValueError: one that lists of arrays do not need.
    """
    if name in DATA:
        stack.append(argument)
    elif name in CONSTANTS:
        stack.append(CONSTANTS[name])
    elif name in TUPLES:
        count = TUPLES[name]
        stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name in ("APPEND", "APPENDS"):
        added = [stack.pop()] if name == "APPEND" else _since_mark(stack)
        _list(stack[-1]).extend(added)
    elif name == "GLOBAL":
        stack.append(_Name(argument))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(_Name(f"{module} {attribute}"))
    elif name == "REDUCE":
        arguments, maker = stack.pop(), stack.pop()
        stack.append(_made(maker, arguments))
    elif name == "BUILD":
        state = stack.pop()
        if not isinstance(stack[-1], Made) or stack[-1].state is not None:
            raise ValueError("a state of nothing")
        stack[-1].state = state
    else:
        raise ValueError(f"an instruction {name}")


def _made(maker: Any, arguments: Any) -> Any:
    if not isinstance(maker, _Name):
        raise ValueError("something made by nothing")
    if maker == LATIN and arguments[1:] == ("latin1",):  # how bytes are written in protocol 2
        return str(arguments[0]).encode("latin-1")
    if maker == EMPTY and arguments == ():
        return b""
    if maker not in ARRAY and maker != DTYPE:
        raise ValueError(f"something made by {maker[:40]}")
    return Made(str(maker), arguments)


def _since_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1 - stack[::-1].index(_MARK)
    found = stack[at + 1 :]
    del stack[at:]
    return found


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("entries of no list")
    return value
