"""The shape of an ONNX graph: a chain of nodes, some of which add two branches that part at one value."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidWeight
from sdplip.weights.onnx_nodes import Known

SUMS = ("Add", "Sub")


@dataclass
class Dataflow:
    """How the values of a graph that depend on its input come about.

    Attributes:
        known: the constants.
        path: of the file, for messages.
        makers: value -> the node that makes it.
        spines: value -> the values that every way from the input to it runs through, in order, itself included.
        used: values that some node takes.
    """

    known: Known
    path: Path
    makers: dict[str, Any] = field(default_factory=dict)
    spines: dict[str, tuple[str, ...]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def add(self, node: Any) -> None:
        """Takes in the next node; one of constants alone is left to `known`.

        Raises:
            InvalidWeight: a node of several values that is no sum of two, or of values that the graph does not make.
        """
        self.known.fold(node)
        output = node.output[0]
        if output in self.known.arrays or output in self.known.computed:
            return
        values = [name for name in node.input if name and name not in self.known.arrays]
        sums = len(values) == len(set(values)) == 2 and node.op_type in SUMS
        if not (len(values) == 1 or sums) or not all(value in self.spines for value in values):
            raise self.refusal(node)
        self.makers[output] = node
        self.used.update(values)
        spines = [self.spines[value] for value in values]
        shared = spines[0] if len(spines) == 1 else tuple(_common(*spines))
        self.spines[output] = (*shared, output)

    def summands(self, node: Any) -> tuple[str, str] | None:
        """The two values that a node adds or subtracts; None of any other node."""
        values = [name for name in node.input if name in self.spines]
        return (values[0], values[1]) if len(values) == 2 else None

    def between(self, start: str, end: str) -> Iterator[Any]:
        """The nodes from `start` to `end`, of which a sum stands for its two branches."""
        spine = self.spines[end]
        for value in spine[spine.index(start) + 1 :]:
            yield self.makers[value]

    def fork(self, node: Any) -> str:
        """Where the two branches of a sum part."""
        return self.spines[node.output[0]][-2]

    def check_end(self, output: str) -> None:
        """Refuses a graph whose output is not the only value that nothing uses.

        Raises:
            InvalidWeight: as said.
        """
        if output not in self.makers:
            raise InvalidWeight(f"The output of `{self.path}` is not the end of its chain of layers.")
        for value, node in self.makers.items():
            if value not in self.used and value != output:
                raise self.refusal(node)

    def refusal(self, node: Any) -> InvalidWeight:
        """The error that names a node outside of the chain."""
        return InvalidWeight(
            f"Node {node.op_type} `{node.name or node.output[0]}` of `{self.path}` does not continue the chain of layers."
            " Branches are covered only where two of them part at one value and are added, at most one with activations."
        )


def _common(a: tuple[str, ...], b: tuple[str, ...]) -> Iterator[str]:
    for left, right in zip(a, b, strict=False):
        if left != right:
            return
        yield left
