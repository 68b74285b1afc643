"""What is not linear in a network: elementwise functions by name, sorting, lengths of groups, and functions of groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.groups import GROUPED
from sdplip.errors import InvalidWeight
from sdplip.network.operators.linear import Rows, Vector, check_length, finite
from sdplip.shapes import Float, Int, short

Parameters = Mapping[str, "float | Vector"]


@dataclass(frozen=True, eq=False)
class Activation:
    r"""An elementwise function by its name in `sdplip.arithmetic.functions.FUNCTIONS`, with difference quotients in
    $[\alpha, \beta]$.

    The slopes are those of the name. Who knows narrower ones, on a region, passes them (`Activation.within`); a function of which
    nothing but the slopes is known has the name "".

    Attributes:
        name: of the function; "" where only the slopes are known.
        length: number of entries.
        parameters: of the function, each a number or one number an entry.
        alpha, beta: slopes, one an entry; read-only.
    """

    name: str
    length: int
    parameters: Parameters = field(default_factory=dict)
    alpha: Vector = field(default=None)  # type: ignore[assignment]  # filled from the name
    beta: Vector = field(default=None)  # type: ignore[assignment]

    __repr__ = short

    def __post_init__(self) -> None:
        check_length("An activation", self.length)
        if self.name:
            function = known(self.name)
            unknown = set(self.parameters) - set(function.parameters)
            if unknown:
                raise InvalidWeight(f"`{self.name}` has no parameter {sorted(unknown)}.")
            for key, value in self.parameters.items():
                if finite(f"The parameter {key} of {self.name}", np.asarray(value)).shape not in (
                    (),
                    (self.length,),
                ):
                    raise InvalidWeight(
                        f"`{key}` of `{self.name}` must be one number, or {self.length} of them."
                    )
        if self.alpha is None or self.beta is None:
            if not self.name:
                raise InvalidWeight("An activation without a name needs its slopes `alpha` and `beta`.")
            alpha, beta = known(self.name).slopes(**self.parameters)
        else:
            alpha, beta = self.alpha, self.beta
        for key, slope in (("alpha", alpha), ("beta", beta)):
            slope = finite(f"The slope {key} of an activation", np.asarray(slope))
            if slope.shape not in ((), (self.length,)):
                raise InvalidWeight(
                    f"`{key}` of an activation must be one number, or {self.length} of them, but has shape {slope.shape}."
                )
            object.__setattr__(self, key, np.broadcast_to(slope, (self.length,)))
        if (self.alpha > self.beta).any():
            raise InvalidWeight("A lower slope `alpha` of an activation exceeds the upper slope `beta`.")

    @property
    def inputs(self) -> int:
        return self.length

    @property
    def outputs(self) -> int:
        return self.length

    def value(self, x: Rows) -> Rows:
        """The function in floating point; its error is the kernel's business."""
        if not self.name:
            raise InvalidWeight("Only the slopes of this activation are known, not its values.")
        return known(self.name).value(np.asarray(x, np.float64), **self.parameters)


@dataclass(frozen=True, eq=False)
class Sort:
    """Writes the entries `groups[k]` back in ascending order, for each row k; no entry stands twice, the others pass.

    GroupSort and MaxMin (Anil, Lucas, Grosse, ICML 2019): at every input a permutation, so 1-Lipschitz.
    """

    groups: Int[np.ndarray, "count size"]
    length: int

    __repr__ = short

    def __post_init__(self) -> None:
        groups = np.asarray(self.groups)
        if groups.ndim != 2 or not groups.size or groups.dtype.kind not in "iu":
            raise InvalidWeight("Groups of sorted neurons must be an array of whole numbers (count, size).")
        if groups.min() < 0 or groups.max() >= self.length or len(np.unique(groups)) != groups.size:
            raise InvalidWeight(
                f"Groups of sorted neurons must hold different numbers from 0 to {self.length - 1}."
            )

    @property
    def inputs(self) -> int:
        return self.length

    @property
    def outputs(self) -> int:
        return self.length

    def value(self, x: Rows) -> Rows:
        y = np.array(x, np.float64)
        y[..., self.groups] = np.sort(y[..., self.groups], -1)
        return y


@dataclass(frozen=True, eq=False)
class Norms:
    r"""$y_k = \lVert x_{\mathrm{groups}_k} \rVert_2$, the lengths of groups of entries that do not share any: 1-Lipschitz."""

    groups: Int[np.ndarray, "count size"]
    length: int

    __repr__ = short

    def __post_init__(self) -> None:
        Sort(self.groups, self.length)

    @property
    def inputs(self) -> int:
        return self.length

    @property
    def outputs(self) -> int:
        return len(self.groups)

    def value(self, x: Rows) -> Rows:
        return np.linalg.norm(x[..., self.groups], axis=-1)


@dataclass(frozen=True, eq=False)
class Grouped:
    """A function of each group of entries by its name in `sdplip.arithmetic.groups.GROUPED`: softmax, layer normalisation.

    Attributes:
        name: of the function.
        groups: the entries of each group; together they are all entries, once each.
        parameters: of the function.
    """

    name: str
    groups: Int[np.ndarray, "count size"]
    length: int
    parameters: Parameters = field(default_factory=dict)

    __repr__ = short

    def __post_init__(self) -> None:
        Sort(self.groups, self.length)
        if self.groups.size != self.length:
            raise InvalidWeight("The groups of a function of groups must cover all entries.")
        if self.name not in GROUPED:
            raise InvalidWeight(
                f"`{self.name}` is no known function of groups. Use one of {', '.join(GROUPED)}."
            )

    @property
    def inputs(self) -> int:
        return self.length

    @property
    def outputs(self) -> int:
        return self.length

    @property
    def constant(self) -> float:
        """A proven Lipschitz constant, rounded up."""
        return GROUPED[self.name].constant(self.groups.shape[1], **self.parameters)

    def value(self, x: Rows) -> Float[np.ndarray, "*batch n"]:
        y = np.array(x, np.float64)
        y[..., self.groups] = GROUPED[self.name].value(y[..., self.groups], **self.parameters)
        return y


def known(name: str):
    """The function called `name`.

    Raises:
        InvalidWeight: there is none.
    """
    if name not in FUNCTIONS:
        raise InvalidWeight(f"The activation `{name}` is not known. Use one of {', '.join(FUNCTIONS)}.")
    return FUNCTIONS[name]
