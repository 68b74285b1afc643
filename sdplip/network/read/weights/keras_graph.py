"""The order of the layers of a functional model of Keras, where they are a chain."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidWeight


def in_order(entries: list[Any], path: Path) -> list[Any]:
    """The layers, each of which takes what the one before it makes, from the input to the output.

    Raises:
        InvalidWeight: a layer that takes several values, is used twice, or makes what several take; several inputs or outputs.
    """
    takes = {str(entry.get("name")): _before(entry, path) for entry in entries if isinstance(entry, Mapping)}
    users: dict[str, list[str]] = {}
    for name, before in takes.items():
        for other in before:
            users.setdefault(other, []).append(name)
    starts = [name for name, before in takes.items() if not before]
    if len(takes) != len(entries) or len(starts) != 1:
        raise _branched(starts[1] if len(starts) > 1 else "", path)
    order = [starts[0]]
    while following := users.get(order[-1]):
        if len(following) > 1 or len(order) > len(entries):
            raise _branched(order[-1], path)
        order.append(following[0])
    if len(order) != len(entries):
        raise _branched(next(name for name in takes if name not in order), path)
    by_name = {str(entry["name"]): entry for entry in entries}
    return [by_name[name] for name in order]


def _before(entry: Mapping[str, Any], path: Path) -> list[str]:
    """Whose values a layer takes: one, or none of an input."""
    name, nodes = str(entry.get("name")), entry.get("inbound_nodes", [])
    found = [list(_histories(node)) for node in nodes] if isinstance(nodes, list) else [[], []]
    if len(found) > 1 or any(len(before) != 1 for before in found):
        raise _branched(name, path)
    return found[0] if found else []


def _histories(value: Any) -> Iterator[str]:
    """The layers whose values stand in a node, as Keras 3 writes it (`keras_history`) or Keras 2 (`[name, 0, 0, {}]`)."""
    if isinstance(value, Mapping):
        history = value.get("keras_history")
        if isinstance(history, list) and history:
            yield str(history[0])
            return
        value = list(value.values())
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and type(value[1]) is int and type(value[2]) is int:
            yield value[0]
            value = value[3:]
        for entry in value:
            yield from _histories(entry)


def _branched(name: str, path: Path) -> InvalidWeight:
    where = f"`{name[:60]}`" if name else "the model"
    return InvalidWeight(
        f"The layers in `{path}` are no chain: {where} adds, joins or repeats, or has several inputs. Export the model to ONNX."
    )
