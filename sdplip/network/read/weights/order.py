"""In which order layers follow each other: that of the file, of the numbers in their names, or the only one that fits."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from sdplip.errors import InvalidWeight
from sdplip.network.read.weights.words import joined
from sdplip.weights.names import natural, parsed

Shape = tuple[int, ...]
LAST = {"final", "head", "last", "output"}
"""Words of layers behind all others."""
STEPS = 20_000
"""Places that a search for orders looks at, at most."""


def arranged(shapes: Mapping[str, Shape], path: Path, *, ordered: bool) -> tuple[list[str], str]:
    """The names of the layers, first layer first, and where the order is from, in words.

    Args:
        shapes: of the layers by name, `(out, in)` and `(out, in / groups, *taps)`, as they stand in the file.
        path: the file, for messages.
        ordered: whether the format keeps the order in which arrays were written.

    Raises:
        InvalidWeight: several orders are possible.
    """
    names = list(shapes)
    stems: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        stems.setdefault(parsed(name).stem, []).append(name)
    counted = [sorted(group, key=_number) for group in stems.values()]
    if ordered and list(stems.values()) == counted:
        _check_last(names, path)
        return names, "in the order of the file"
    if not ordered and len(counted) == 1 and len({_number(name) for name in names}) == len(names):
        return counted[0], "in the order of the numbers in their names"
    orders = _fitting(counted, shapes)
    if ordered and _follows(names, shapes):
        if orders:
            raise _which(
                names, "the order of the file is not that of the numbers in their names, and both fit", path
            )
        return (
            names,
            "in the order of the file, which is not that of the numbers in their names but the only one that fits",
        )
    if len(orders) > 1:
        raise _which(names, "several orders fit", path)
    if orders:
        return orders[0], "in the only order that fits"
    return sorted(names, key=natural), "in the order of their names"


def _check_last(names: Sequence[str], path: Path) -> None:
    """torch's files keep the order in which layers were made, which need not be that in which they act."""
    ends = [bool(LAST & set(parsed(name).tokens)) for name in names]
    for name, end, after in zip(names, ends, ends[1:], strict=False):
        if end and not after:
            raise _which(names, f"the file has others behind `{name}`", path)


def _number(name: str) -> tuple[int, ...]:
    return parsed(name).numbers


def _which(names: Sequence[str], why: str, path: Path) -> InvalidWeight:
    return InvalidWeight(
        f"`{path}` does not say in which order its layers {joined(names, 4)} follow each other: {why}. Name them with `--layer`,"
        " first layer first."
    )


def _follows(names: Sequence[str], shapes: Mapping[str, Shape]) -> bool:
    return all(_fit(shapes[a], shapes[b]) for a, b in pairwise(names))


def _fit(before: Shape, after: Shape) -> bool:
    """Whether a layer may take what the one before it makes."""
    made, taken = before[0], after[1]
    if len(after) == 2:
        return taken % made == 0 if len(before) > 2 else taken == made
    return len(before) == len(after) and made % taken == 0


def _fitting(groups: Sequence[Sequence[str]], shapes: Mapping[str, Shape]) -> list[list[str]]:
    """Up to two orders in which shapes fit and the members of each group keep theirs."""
    found, steps = list[list[str]](), 0
    waiting: list[tuple[list[str], tuple[int, ...]]] = [([], (0,) * len(groups))]
    total = sum(map(len, groups))
    while waiting and len(found) < 2:
        order, used = waiting.pop()
        steps += 1
        if steps > STEPS:
            return [list(shapes), list(shapes)]  # too many to tell: not unique
        if len(order) == total:
            found.append(order)
            continue
        for k, group in enumerate(groups):
            if used[k] < len(group) and (not order or _fit(shapes[order[-1]], shapes[group[used[k]]])):
                waiting.append(([*order, group[used[k]]], (*used[:k], used[k] + 1, *used[k + 1 :])))
    return found
