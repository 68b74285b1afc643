r"""Index maps: permute, reshape, slice, pad, repeat (`Gather`), their adjoints, which add up (`Scatter`), sums of values, and
values side by side."""

from dataclasses import dataclass

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.operators.linear import AbstractLinear, Rows, Vector, check_length
from sdplip.shapes import Float, Int, short


@dataclass(frozen=True, eq=False)
class Gather(AbstractLinear):
    r"""$y_i = x_{\mathrm{index}_i}$, and 0 where the index is -1.

    Permutations, slices, padding with zeros, circular padding, flips, upsampling and broadcasting are all of this kind. Its norm
    is the root of how often the most frequent entry is read.
    """

    index: Int[np.ndarray, " outputs"]
    length: int
    b: Vector | None = None

    __repr__ = short

    def __post_init__(self) -> None:
        index = np.asarray(self.index)
        if index.ndim != 1 or not index.size or index.dtype.kind not in "iu":
            raise InvalidWeight(
                f"An index map needs a vector of whole numbers, but has {index.dtype} of shape {index.shape}."
            )
        if index.min() < -1 or index.max() >= self.length:
            raise InvalidWeight(
                f"An index map reads entries from {index.min()} to {index.max()} of {self.length}."
            )
        object.__setattr__(self, "index", index.astype(np.intp, copy=False))
        assert self.b is None, "an index map has no shift"

    @property
    def inputs(self) -> int:
        return self.length

    @property
    def outputs(self) -> int:
        return len(self.index)

    @property
    def terms(self) -> int:
        return 0

    @property
    def adjoint_terms(self) -> int:
        return self.most

    @property
    def most(self) -> int:
        """How often the most frequent entry is read."""
        read = self.index[self.index >= 0]
        return int(np.bincount(read).max()) if read.size else 0

    def apply(self, x: Rows) -> Rows:
        return np.where(self.index < 0, 0.0, x[..., self.index])

    def adjoint(self, y: Rows) -> Rows:
        return _added_up(y, self.index, self.length)

    def absolute(self) -> "Gather":
        return self


@dataclass(frozen=True, eq=False)
class Scatter(AbstractLinear):
    r"""$y_j = \sum_{i : \mathrm{index}_i = j} x_i$; entries of index -1 are dropped. The adjoint of `Gather`: sums over axes."""

    index: Int[np.ndarray, " inputs"]
    length: int
    b: Vector | None = None

    __repr__ = short

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", Gather(self.index, self.length).index)
        assert self.b is None, "an index map has no shift"

    @property
    def inputs(self) -> int:
        return len(self.index)

    @property
    def outputs(self) -> int:
        return self.length

    @property
    def terms(self) -> int:
        return self.most

    @property
    def adjoint_terms(self) -> int:
        return 0

    @property
    def most(self) -> int:
        """How many entries the longest sum has."""
        return Gather(self.index, self.length).most

    def apply(self, x: Rows) -> Rows:
        return _added_up(x, self.index, self.length)

    def adjoint(self, y: Rows) -> Rows:
        return np.where(self.index < 0, 0.0, y[..., self.index])

    def absolute(self) -> "Scatter":
        return self


@dataclass(frozen=True)
class Sum:
    """$\\sum_k s_k x_k$ of several values of one length, with factors 1 and -1."""

    signs: tuple[int, ...]
    length: int

    def __post_init__(self) -> None:
        if not self.signs or any(sign not in (1, -1) for sign in self.signs):
            raise InvalidWeight(f"A sum needs signs 1 and -1, but has {self.signs}.")
        check_length("A sum", self.length)

    @property
    def outputs(self) -> int:
        return self.length


@dataclass(frozen=True)
class Concatenate:
    """Several values one after the other; other orders are this and a `Gather`."""

    lengths: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.lengths:
            raise InvalidWeight("Values one after the other need at least one.")
        for length in self.lengths:
            check_length("A value", length)

    @property
    def outputs(self) -> int:
        return sum(self.lengths)


def _added_up(y: Rows, index: Int[np.ndarray, " n"], length: int) -> Float[np.ndarray, "*batch length"]:
    found = np.zeros((length, *y.shape[:-1]))
    kept = index >= 0
    np.add.at(found, index[kept], np.moveaxis(np.asarray(y, np.float64), -1, 0)[kept])
    return np.moveaxis(found, 0, -1)
