r"""What every linear map of a network can do: apply, adjoint, exact shape, absolute values, how long its sums are."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sdplip.errors import InvalidProblem, InvalidWeight
from sdplip.shapes import Float, short
from sdplip.stored import widened

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
Rows = Float[np.ndarray, "*batch n"]

LARGEST = 1 << 25
"""Entries of the largest dense matrix that is formed: 256 MB."""


class AbstractLinear(ABC):
    r"""$x \mapsto A x + b$ on flat vectors; A is known through what it does, entries are doubles or within `error` of doubles.

    Subclasses are frozen dataclasses with `inputs`, `outputs`, `b` (None is 0) and:

    - `apply(x)`, `adjoint(y)`: $A x$, $A^\top y$ without the shift, over leading batch axes;
    - `absolute()`: the map of the entries' absolute values, $|A|$;
    - `terms`, `adjoint_terms`: the longest sum in `apply` and `adjoint`, for $|fl(A x) - A x| \le \gamma_{terms} |A| |x|$;
    - `error`: entries are meant to be any numbers within this relative error of those that are stored; 0 is exact.
    """

    b: Vector | None
    error: float = 0.0

    @property
    @abstractmethod
    def inputs(self) -> int: ...

    @property
    @abstractmethod
    def outputs(self) -> int: ...

    @property
    @abstractmethod
    def terms(self) -> int: ...

    @property
    @abstractmethod
    def adjoint_terms(self) -> int: ...

    @abstractmethod
    def apply(self, x: Rows) -> Rows: ...

    @abstractmethod
    def adjoint(self, y: Rows) -> Rows: ...

    @abstractmethod
    def absolute(self) -> "AbstractLinear": ...

    def shift(self) -> Vector:
        """The constant b, zeros where there is none."""
        return np.zeros(self.outputs) if self.b is None else np.asarray(self.b, np.float64)

    def dense(self, limit: int = LARGEST) -> Matrix:
        """The matrix, bit for bit.

        Raises:
            InvalidProblem: more than `limit` entries.
        """
        if self.inputs * self.outputs > limit:
            raise InvalidProblem(
                f"The dense matrix of a {type(self).__name__} ({self.inputs} -> {self.outputs}) would have more than {limit}"
                " entries. Use the method 'product', 'frequency' or 'riccati', which work on operators."
            )
        if self.inputs <= self.outputs:
            return np.ascontiguousarray(self.apply(np.eye(self.inputs)).T)
        return self.adjoint(np.eye(self.outputs))


@dataclass(frozen=True, eq=False)
class Dense(AbstractLinear):
    """$x \\mapsto W x + b$ with `W` of shape `(out, in)`."""

    W: Matrix
    b: Vector | None = None

    __repr__ = short

    def __post_init__(self) -> None:
        W = finite("The weight of a linear layer", self.W)
        if W.ndim != 2 or 0 in W.shape:
            raise InvalidWeight(
                f"The weight of a linear layer must be a matrix (out, in), but has shape {W.shape}."
            )
        object.__setattr__(self, "W", W)
        set_shift(self, len(W))

    @property
    def inputs(self) -> int:
        return self.W.shape[1]

    @property
    def outputs(self) -> int:
        return self.W.shape[0]

    @property
    def terms(self) -> int:
        return self.inputs

    @property
    def adjoint_terms(self) -> int:
        return self.outputs

    def apply(self, x: Rows) -> Rows:
        return _times(x, self.W.T)

    def adjoint(self, y: Rows) -> Rows:
        return _times(y, self.W)

    def absolute(self) -> "Dense":
        return Dense(abs(self.W), None if self.b is None else abs(self.b))

    def dense(self, limit: int = LARGEST) -> Matrix:  # noqa: ARG002  (it is one already)
        return self.W


def _times(x: Rows, M: Matrix) -> Rows:
    """Rows times a matrix: one product for all leading axes, which a stack of products is slower than."""
    return x @ M if x.ndim < 3 else (x.reshape(-1, x.shape[-1]) @ M).reshape(*x.shape[:-1], M.shape[1])


@dataclass(frozen=True, eq=False)
class OnAxis(AbstractLinear):
    r"""A matrix on one axis of an array: $y_{pjq} = \sum_i W_{ji} x_{piq}$ for x of shape `(before, in, after)`.

    Rows of tokens, products from the left, 1 x 1 convolutions. Its norm is that of `W`. `b` has one entry for each output.
    """

    W: Matrix
    before: int
    after: int
    b: Vector | None = None

    __repr__ = short

    def __post_init__(self) -> None:
        W = finite("The weight of a linear layer", self.W)
        if W.ndim != 2 or 0 in W.shape or min(self.before, self.after) < 1:
            raise InvalidWeight(
                f"A matrix on an axis needs shape (out, in), but has {W.shape} on {self.before} x {self.after}."
            )
        object.__setattr__(self, "W", W)
        set_shift(self, self.outputs)

    @property
    def inputs(self) -> int:
        return self.before * self.W.shape[1] * self.after

    @property
    def outputs(self) -> int:
        return self.before * self.W.shape[0] * self.after

    @property
    def terms(self) -> int:
        return self.W.shape[1]

    @property
    def adjoint_terms(self) -> int:
        return self.W.shape[0]

    def apply(self, x: Rows) -> Rows:
        return self._product(self.W, x)

    def adjoint(self, y: Rows) -> Rows:
        return self._product(self.W.T, y)

    def absolute(self) -> "OnAxis":
        return OnAxis(abs(self.W), self.before, self.after, None if self.b is None else abs(self.b))

    def _product(self, W: Matrix, x: Rows) -> Rows:
        parts = x.reshape(*x.shape[:-1], self.before, W.shape[1], self.after)
        return (W @ parts).reshape(*x.shape[:-1], -1)


@dataclass(frozen=True, eq=False)
class Diagonal(AbstractLinear):
    r"""$x \mapsto d x + b$, entry by entry: normalisation, step sizes.

    Attributes:
        error: relative error of the factors, where they are roundings of what is meant (batch normalisation).
        shift_error: absolute error of each entry of `b`, likewise.
    """

    d: Vector
    b: Vector | None = None
    error: float = 0.0
    shift_error: Vector | None = None

    __repr__ = short

    def __post_init__(self) -> None:
        d = finite("The factors of a normalisation", self.d)
        if d.ndim != 1 or not d.size:
            raise InvalidWeight(f"The factors of a normalisation must be a vector, but have shape {d.shape}.")
        object.__setattr__(self, "d", d)
        set_shift(self, len(d))
        errors = (
            np.zeros(len(d)) if self.shift_error is None else finite("Errors of a shift", self.shift_error)
        )
        if not (0 <= self.error < 1) or errors.shape != d.shape or (errors < 0).any():
            raise InvalidWeight(
                "Errors of a normalisation must not be negative, that of its factors below 1, and each of its shifts needs one."
            )

    @property
    def inputs(self) -> int:
        return len(self.d)

    @property
    def outputs(self) -> int:
        return len(self.d)

    @property
    def terms(self) -> int:
        return 1

    @property
    def adjoint_terms(self) -> int:
        return 1

    def apply(self, x: Rows) -> Rows:
        return x * self.d

    def adjoint(self, y: Rows) -> Rows:
        return y * self.d

    def absolute(self) -> "Diagonal":
        return Diagonal(abs(self.d), None if self.b is None else abs(self.b), self.error, self.shift_error)


@dataclass(frozen=True, eq=False)
class Transposed(AbstractLinear):
    r"""$x \mapsto A^\top x + b$ of another linear map A: transposed convolutions, the way down of a residual layer."""

    of: AbstractLinear
    b: Vector | None = None

    __repr__ = short

    def __post_init__(self) -> None:
        set_shift(self, self.outputs)

    @property
    def error(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.of.error

    @property
    def inputs(self) -> int:
        return self.of.outputs

    @property
    def outputs(self) -> int:
        return self.of.inputs

    @property
    def terms(self) -> int:
        return self.of.adjoint_terms

    @property
    def adjoint_terms(self) -> int:
        return self.of.terms

    def apply(self, x: Rows) -> Rows:
        return self.of.adjoint(x)

    def adjoint(self, y: Rows) -> Rows:
        return self.of.apply(y)

    @cached_property
    def _absolute(self) -> "Transposed":
        return Transposed(self.of.absolute(), None if self.b is None else abs(self.b))

    def absolute(self) -> "Transposed":
        return self._absolute


def finite(what: str, array: np.ndarray) -> Float[np.ndarray, "..."]:
    """The array in double precision, every entry unchanged.

    Raises:
        InvalidWeight: no real numbers, more than double precision holds, NaN or infinity.
    """
    try:
        array = np.asarray(array)
    except ValueError:
        raise InvalidWeight(f"{what} must be an array, but its rows have several lengths.") from None
    if array.dtype.kind not in "fiub":
        raise InvalidWeight(f"{what} must hold real numbers, but its type is {array.dtype}.")
    double = widened(array)
    if not np.isfinite(double).all():
        raise InvalidWeight(f"{what} holds NaN or infinity. Repair or retrain the layer.")
    if array.dtype.itemsize > 8 or (array.dtype.kind in "iu" and abs(double).max(initial=0.0) > 2.0**53):
        raise InvalidWeight(
            f"{what} of type {array.dtype} is not exact in double precision. Convert it first."
        )
    return double


def check_length(what: str, length: int) -> None:
    """Nothing, where a length is a positive whole number.

    Raises:
        InvalidWeight: it is something else.
    """
    if not isinstance(length, int | np.integer) or length < 1:
        raise InvalidWeight(f"{what} needs a positive whole number of entries, but has {length}.")


def set_shift(op: AbstractLinear, length: int) -> None:
    """Checks the shift of a frozen operator and makes it double.

    Raises:
        InvalidWeight: not `length` finite numbers.
    """
    if op.b is None:
        return
    b = finite("The bias", op.b)
    if b.shape != (length,):
        raise InvalidWeight(
            f"A bias must hold {length} numbers, one for each output, but has shape {b.shape}."
        )
    object.__setattr__(op, "b", b)
