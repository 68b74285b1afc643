"""The table of operators: what of ONNX is read. A new operator is one function and one line."""

from collections.abc import Mapping

from sdplip.network.read.onnx.operators.axes import AXES
from sdplip.network.read.onnx.operators.entry import Operator
from sdplip.network.read.onnx.operators.functions import FUNCTIONS
from sdplip.network.read.onnx.operators.moves import MOVES
from sdplip.network.read.onnx.operators.products import PRODUCTS
from sdplip.network.read.onnx.operators.windows import WINDOWS

OPERATORS: Mapping[str, Operator] = {**PRODUCTS, **MOVES, **AXES, **WINDOWS, **FUNCTIONS}
"""By name in the standard domain."""


def operator_rows() -> list[tuple[str, str]]:
    """For the documentation: each operator, and what of it is covered."""
    return [(name, OPERATORS[name].covers or "all") for name in sorted(OPERATORS)]


__all__ = ["OPERATORS", "Operator", "operator_rows"]
