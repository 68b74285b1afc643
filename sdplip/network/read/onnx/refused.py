"""Why an operator is refused, in words."""

from typing import Any

from sdplip.weights.onnx_file import STANDARD

STEEP = (
    "Exp",
    "Log",
    "Pow",
    "Sqrt",
    "Reciprocal",
    "ReduceSumSquare",
    "ReduceProd",
    "LpNormalization",
    "Tan",
    "Sinh",
    "Cosh",
)
JUMPS = """ArgMax ArgMin Ceil Equal Floor Greater GreaterOrEqual Hardmax Less LessOrEqual NonZero Not OneHot QuantizeLinear Round
Sign ThresholdedRelu DynamicQuantizeLinear Binarizer""".split()  # noqa: SIM905
RECURRENT = ("LSTM", "GRU", "RNN")
BRANCHES = ("If", "Loop", "Scan", "SequenceMap")
QUANTISED = ("QGemm", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulNBits")
RANDOM = (
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
)


def why_not(node: Any) -> str:
    """What is wrong with a node whose operator is not in the table, as the end of a sentence."""
    kind = node.op_type
    if node.domain not in STANDARD:
        return f"is of the domain `{node.domain}`, whose operators are not known. Export with standard operators only."
    if kind in STEEP:
        return (
            "is steep without limit on all inputs, and no layer that is known was recognised around it. Write the layer as one"
            " operator (Gelu, LayerNormalization, Softmax, ...) in a newer operator set."
        )
    if kind in JUMPS:
        return "jumps, so that it has no Lipschitz constant. Take the output before it."
    if kind in RECURRENT:
        return "is recurrent, which is not covered. Export the other layers alone, or unroll it."
    if kind in BRANCHES:
        return "holds graphs of its own, which are not followed. Export the network without control flow."
    if kind in QUANTISED:
        return "is quantised, so that it jumps. Export the network before quantisation."
    if kind in RANDOM:
        return "is random. Export the network in evaluation mode."
    return "is not covered. The documentation lists the operators that are; leave it out, or save the layers as matrices."
