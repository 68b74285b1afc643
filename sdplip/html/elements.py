"""Elements of a page: tags, tables, foldable trees. Text is escaped by the serialiser of the standard library, never by hand."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

from sdplip.verifier.show import printable

Node = ET.Element
Inside = Node | str | None
VERBATIM = ("style",)


def tag(name: str, /, *inside: Inside, **attributes: str | float | None) -> Node:
    """An element; None is left out. `class_` is the attribute `class`, `stroke_width` is `stroke-width`."""
    node = ET.Element(name)
    for key, value in attributes.items():
        if value is not None:
            node.set(key.rstrip("_").replace("_", "-"), _text(value))
    for part in inside:
        if isinstance(part, str):
            part = part if name in VERBATIM else printable(part)
            if len(node):
                node[-1].tail = (node[-1].tail or "") + part
            else:
                node.text = (node.text or "") + part
        elif part is not None:
            node.append(part)
    return node


def text(node: Node) -> str:
    """The element as HTML."""
    return ET.tostring(node, encoding="unicode", method="html")


def _text(value: str | float) -> str:
    return printable(value) if isinstance(value, str) else f"{value:.6g}"


def table(titles: Sequence[str], rows: Iterable[Sequence[Inside]], *, left: int = 1) -> Node:
    """A table that scrolls by itself where the screen is narrow; the first `left` columns are text, the others numbers."""
    head = tag("tr", *(tag("th", title, class_=None if k < left else "n") for k, title in enumerate(titles)))
    body = [
        tag("tr", *(tag("td", cell, class_=None if k < left else "n") for k, cell in enumerate(row)))
        for row in rows
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="wide")


def facts(rows: Iterable[tuple[str, Inside]]) -> Node:
    """Names and values; a value that is missing leaves the row out."""
    kept = [(name, value) for name, value in rows if value is not None and value != ""]
    body = (tag("tr", tag("th", name, scope="row"), tag("td", value)) for name, value in kept)
    return tag("div", tag("table", tag("tbody", *body), class_="facts"), class_="wide")


def fold(head: Inside, *inside: Inside, opened: bool = False) -> Node:
    """What can be folded away."""
    return tag("details", tag("summary", head), *inside, open="open" if opened else None)


def tree(head: Inside, parts: Sequence[Node], *, opened: bool = True) -> Node:
    """A node of a tree, foldable where it has parts."""
    if not parts:
        return tag("div", head, class_="leaf")
    return tag("details", tag("summary", head), tag("div", *parts, class_="branch"), open="open" if opened else None)  # fmt: skip


def code(words: str) -> Node:
    return tag("code", words)


def paragraph(*inside: Inside, class_: str | None = None) -> Node:
    return tag("p", *inside, class_=class_)


def joined(class_: str, *inside: Inside) -> Node:
    return tag("div", *inside, class_=class_)
