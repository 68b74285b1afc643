"""Residual blocks of a file of weights, which the user states: by their names, or one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidWeight
from sdplip.network.read.weights.assumptions import Assumptions
from sdplip.network.read.weights.words import joined
from sdplip.weights.layers import known_names
from sdplip.weights.names import parsed

NAMED = {"residual": False, "resnet": True}
"""Structures whose blocks are known by their names: whether the activation stands behind the sums."""
SHORTCUTS = {"downsample", "identity", "proj", "projection", "shortcut", "shortcuts", "skip"}
"""Words in names of layers in the identity's place."""
PARTS = {"block", "res", "resblock", "residual"}
"""Words of a block without a number."""


@dataclass(frozen=True)
class Block:
    """A part of a chain that makes $s(x) + f(x)$.

    Attributes:
        layers: names of those of f, first layer first.
        shortcut: names of those of s, linear; () is the identity.
        activation: where it stands in f: "between" its layers, "before" or "behind" each of them.
        activated: whether it stands behind the sum too.
        title: for people.
    """

    layers: tuple[str, ...]
    shortcut: tuple[str, ...] = ()
    activation: str = "between"
    activated: bool = False
    title: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all layers."""
        return self.layers + self.shortcut


def blocks_of(names: Sequence[str], assumptions: Assumptions, path: Path) -> tuple[Block, ...]:
    """The blocks that were said, of layers in their order.

    Raises:
        UnknownLayer: a block of layers that are not there.
        InvalidWeight: a layer in two blocks, layers of a block that do not follow each other, no block where some were said.
    """
    if assumptions.blocks and assumptions.structure:
        raise InvalidWeight(
            f"`structure` {assumptions.structure!r} and tables of blocks both say what is added. Use one of them."
        )
    found = tuple(_said(block, names) for block in assumptions.blocks)
    if assumptions.structure in NAMED:
        found = tuple(_by_names(names, NAMED[assumptions.structure]))
        if not found:
            raise InvalidWeight(
                f"No part of `{path}` is a block by the names of its layers, {joined(names, 4)}. Say the blocks layer by layer:"
                " `--geometry FILE.toml` with tables `[[block]]`."
            )
    _check(found, names, path)
    return found


def sentences(blocks: Sequence[Block]) -> list[str]:
    """What was said, in words."""
    if not blocks:
        return []
    found, kinds = list[str](), dict[tuple[str, bool], list[Block]]()
    for block in blocks:
        kinds.setdefault((block.activation, block.activated), []).append(block)
    for (where, activated), alike in kinds.items():
        inside = "between the layers of f" if where == "between" else f"{where} every layer of f"
        sums = "and behind the sum" if activated else "and nothing behind the sum"
        found.append(
            f"Residual blocks, x + f(x): {joined(block.title for block in alike)}, the activation {inside} {sums}, as was said."
        )
    found += [
        f"In `{block.title}`, {joined(block.shortcut)} acts on x in the sum, as was said."
        for block in blocks
        if block.shortcut
    ]
    return found


def _said(block: Mapping[str, Any], names: Sequence[str]) -> Block:
    layers, shortcut = (
        tuple(known_names([full_name(name, names) for name in block.get(key, ())], names))
        for key in ("layers", "shortcut")
    )
    where, title = block.get("activation", "between"), " to ".join(dict.fromkeys((layers[0], layers[-1])))
    return Block(layers, shortcut, where, block.get("sum") == "activated", title)


def full_name(short: str, names: Sequence[str]) -> str:
    """`conv1.weight` of `conv1`; what is not known stays as it is."""
    longer = [name for name in names if name not in (short,) and _stem(name) == short]
    return longer[0] if short not in names and len(longer) == 1 else short


def _stem(name: str) -> str:
    return name.removesuffix(parsed(name).path[-1]).rstrip("./_")


def _by_names(names: Sequence[str], activated: bool) -> list[Block]:
    """Numbered parts of several layers each; what is called a shortcut stands in the identity's place."""
    containers = {name: parsed(name).container for name in names}
    found = dict[tuple[str, ...], list[str]]()
    for name in names:
        if part := _part(containers[name], list(containers.values())):
            found.setdefault(part, []).append(name)
    blocks = list[Block]()
    for part, inside in found.items():
        aside = tuple(name for name in inside if SHORTCUTS & set(parsed(name).tokens))
        layers = tuple(name for name in inside if name not in aside)
        if layers:
            blocks.append(Block(layers, aside, "between", activated, ".".join(part)))
    return blocks


def _part(container: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The longest beginning that ends in a number, or says block, and holds several layers."""
    for end in range(len(container), 0, -1):
        part, last = container[:end], container[end - 1]
        words = {token for token in parsed(last).tokens if isinstance(token, str)}
        if SHORTCUTS & words or not (any(map(str.isdigit, last)) or words & PARTS):
            continue
        if sum(other[:end] == part for other in others) > 1:
            return part
    return None


def _check(blocks: Sequence[Block], names: Sequence[str], path: Path) -> None:
    held = [name for block in blocks for name in block.names]
    if twice := sorted({name for name in held if held.count(name) > 1}):
        raise InvalidWeight(f"`{twice[0]}` in `{path}` is said to be in two blocks, or twice in one.")
    aside = {name for block in blocks for name in block.shortcut}
    order = [name for name in names if name not in aside]
    for block in blocks:
        start = order.index(block.layers[0])
        if order[start : start + len(block.layers)] != list(block.layers):
            raise InvalidWeight(
                f"{joined(block.layers)} in `{path}` are said to be a block, but do not follow each other in this order. Name all"
                " layers in their order with `--layer`."
            )
