"""What checkpoints of torch hold beside tensors and is harmless: numbers and arrays of NumPy, settings, paths.

`torch.load(weights_only=True)` builds tensors and containers alone. Here stand-ins are named for the classes that checkpoints
usually hold too. A stand-in keeps what it is given and does nothing, so a file that abuses one gains nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

KINDS = "fiubc"


@dataclass
class Kind:
    """Stands for `numpy.dtype`."""

    code: Any = ""
    align: Any = None
    copy: Any = None
    order: str = "="

    def __setstate__(self, state: Any) -> None:
        self.order = (
            state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") else "="
        )

    def __hash__(self) -> int:
        return id(self)

    def dtype(self) -> np.dtype | None:
        """None of what holds no numbers."""
        code = self.code if isinstance(self.code, str) else ""
        if code[:1] not in KINDS or not code[1:].isdecimal() or int(code[1:]) > 16:
            return None
        return np.dtype(code).newbyteorder(self.order)  # type: ignore[arg-type]  # one of three characters


class Stored:
    """Stands for `numpy.ndarray`."""

    def __init__(self, *_: Any):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray | None:
        """None of what holds no numbers.

        Raises:
            ValueError: bytes that do not fill the shape.
        """
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            return None
        _, shape, kind, by_columns, data = self.state
        dtype = kind.dtype() if isinstance(kind, Kind) else None
        if dtype is None or not isinstance(data, bytes) or not all(type(n) is int and n >= 0 for n in shape):
            return None
        if prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f"an array {shape} of type {dtype} has {len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")


class Ignored:
    """Stands for settings, paths and dates."""

    def __new__(cls, *_: Any, **__: Any) -> "Ignored":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def scalar(kind: Any, data: Any = b"") -> Any:
    """Stands for the maker of NumPy's numbers; `Ignored` of what holds no number."""
    array = Stored()
    array.state = (1, (), kind, False, data)
    found = array.array()
    return Ignored() if found is None else found[()]


def table(*_: Any) -> dict[Any, Any]:
    """Stands for `defaultdict`, whose entries follow."""
    return {}


def array_of(*_: Any) -> Stored:
    """Stands for the maker of NumPy's arrays."""
    return Stored()


PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
STAND_INS: tuple[tuple[Callable[..., Any], str], ...] = (
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
    (array_of, "numpy.core.multiarray._reconstruct"),
    (array_of, "numpy._core.multiarray._reconstruct"),
    (Stored, "numpy.ndarray"),
    (Kind, "numpy.dtype"),
    (table, "collections.defaultdict"),
    *((Ignored, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in PATHS),
    (Ignored, "argparse.Namespace"),
    (Ignored, "types.SimpleNamespace"),
    *((Ignored, f"datetime.{name}") for name in ("datetime", "date", "timedelta")),
    (Ignored, "builtins.list"),
    (Ignored, "builtins.dict"),
    (Ignored, "builtins.int"),
    (Ignored, "builtins.float"),
)
"""Stand-ins and the names that they stand for; the last four are the arguments of `defaultdict`."""
