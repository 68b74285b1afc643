"""What stands between layers by its name on the command line: an elementwise function with parameters, or sorting."""

from math import prod

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.errors import InvalidWeight
from sdplip.network.operators import Activation, Grouped, Sort

HOMOGENEOUS = ("relu", "abs", "identity", "leaky_relu", "prelu")
"""Biases do not matter to their largest slopes."""
SORTING = ("maxmin", "maxmin-halves")


def between(
    kind: str, shape: tuple[int, ...], slopes: tuple[float, float] | None = None, *, evaluated: bool = True
) -> Activation | Sort | Grouped:
    """The operator called `kind` on values of `shape`, `(features,)` or `(channels, *pixels)`; of a function with `slopes` alone,
    that.

    Names are those of `sdplip.arithmetic.functions.FUNCTIONS`, with parameters behind colons (`leaky_relu:0.1`,
    `elu:alpha=0.5`), `maxmin` (neighbours in pairs), `maxmin-halves` (maxima first), `groupsort:k` and `softmax`. Images are
    sorted along channels.

    Args:
        kind: the name.
        shape: of the values.
        slopes: of a function of which nothing else is known.
        evaluated: whether values matter; where they are not known for sure (biases), a function keeps its slopes alone.

    Raises:
        InvalidWeight: no such name or parameter, groups that do not fill the channels, slopes out of order.
    """
    n = prod(shape)
    if slopes is not None:
        if not slopes[0] <= slopes[1]:
            raise InvalidWeight(
                f"Slopes must be finite with `alpha <= beta`, but are {slopes[0]} and {slopes[1]}."
            )
        return Activation("", n, alpha=np.full(n, slopes[0]), beta=np.full(n, slopes[1]))
    name, *given = kind.split(":")
    if kind in SORTING or (name == "groupsort" and len(given) == 1 and given[0].isdecimal()):
        return _sort(kind, int(given[0]) if given else 2, shape)
    if kind == "softmax":
        return Grouped("softmax", np.arange(n).reshape(shape[0], -1).T, n)
    name = name.lower().replace("-", "_")
    if name not in FUNCTIONS:
        raise InvalidWeight(
            f"There is no activation `{kind}`. Use {', '.join(FUNCTIONS)}, maxmin, maxmin-halves, groupsort:K, or"
            " `--slopes A,B` for any other."
        )
    parameters = _parameters(kind, given, list(FUNCTIONS[name].parameters))
    found = Activation(name, n, parameters)
    if not evaluated and name not in HOMOGENEOUS:
        return Activation("", n, alpha=found.alpha, beta=found.beta)
    return found


def _parameters(kind: str, given: list[str], names: list[str]) -> dict[str, float]:
    found = dict[str, float]()
    for place, text in enumerate(given):
        key, _, number = text.rpartition("=")
        key = key or (names[place] if place < len(names) else "")
        try:
            value = float(number)
        except ValueError:
            value = np.nan
        if key not in names or key in found or not np.isfinite(value):
            known = f"Its parameters are {', '.join(names)}." if names else "It has no parameters."
            raise InvalidWeight(f"There is no activation `{kind}`: `{text}` is no parameter of it. {known}")
        found[key] = value
    return found


def _sort(kind: str, size: int, shape: tuple[int, ...]) -> Sort:
    channels, n = shape[0], prod(shape)
    if size < 1 or channels % size:
        raise InvalidWeight(
            f"`{kind}`: groups of {size} do not fill {channels} neurons. Use a size that divides them."
        )
    order = np.arange(channels).reshape(-1, size)
    if kind == "maxmin-halves":  # the larger one first, as `sdplip.nn.MaxMin` has it
        order = np.arange(channels).reshape(2, -1)[::-1].T
    places = np.arange(n).reshape(channels, -1)[order]  # (groups, size, pixels)
    return Sort(np.moveaxis(places, -1, 1).reshape(-1, size), n)
