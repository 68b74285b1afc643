"""Layers that exporters write out as several nodes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sdplip.network.read.arrays import Array
from sdplip.network.read.onnx.facts import Facts, Model


@dataclass(frozen=True)
class Found:
    """A value that is a layer of another one.

    Attributes:
        base: the value that the layer takes.
        make: the layer.
    """

    base: str
    make: Callable[[Array], Array]


def recognised(model: Model, facts: Facts) -> Mapping[str, Found]:
    """Of each value that is the last of a written out layer, that layer."""
    return {}
