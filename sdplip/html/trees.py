"""Trees that fold: of the bound of a module, and of the rules of a proof."""

from typing import TYPE_CHECKING, Any

from sdplip.arithmetic.decimals import above
from sdplip.html.elements import Node, tag, tree

if TYPE_CHECKING:
    from sdplip.kernel.proof import Proof
    from sdplip.nn.bounds.tree import Bound

MOST_NODES = 400
"""Nodes of a tree that are shown."""


def bound_nodes(found: "Bound") -> Node:
    """The tree alone."""
    left = [MOST_NODES]

    def node(bound: "Bound", mark: str, deep: int) -> Node:
        left[0] -= 1
        name = f"{mark} {bound.name}".strip() or "network"
        head = tag("span", tag("b", f"{name} <= {above(bound.value, 8)}"), f" ({bound.reason})")
        parts = [("", part) for part in bound.parts] + [("also valid:", other) for other in bound.others]
        if left[0] < len(parts):
            return tree(head, [tag("div", f"... {len(parts)} more", class_="leaf")] if parts else [])
        return tree(head, [node(part, word, deep + 1) for word, part in parts], opened=deep < 1)

    return node(found, "", 0)


def proof_tree(proof: "Proof") -> Node:
    """The rules of a proof and the sizes of their data."""
    left = [MOST_NODES]

    def node(part: "Proof", deep: int) -> Node:
        left[0] -= 1
        data = ", ".join(f"{key} {_size(value)}" for key, value in part.data.items())
        head = tag("span", tag("b", part.rule[:60]), f" {data[:200]}" if data else None)
        if left[0] < len(part.parts):
            return tree(head, [tag("div", f"... {len(part.parts)} more", class_="leaf")])
        return tree(head, [node(deeper, deep + 1) for deeper in part.parts], opened=deep < 2)

    return node(proof, 0)


def _size(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"[{' × '.join(map(str, value.shape))}]"
    return f"[{len(value)}]" if isinstance(value, list | tuple) else str(value)[:40]
