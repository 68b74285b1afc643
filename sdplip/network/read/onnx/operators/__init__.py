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

__all__ = ["OPERATORS", "Operator"]
