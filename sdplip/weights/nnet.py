"""The .nnet text format of Kyle Julian (ACAS Xu)."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from sdplip.shapes import Float
from sdplip.weights.content import content
from sdplip.weights.damaged import refuse_damaged

NORMALISATION = ("input_minimum", "input_maximum", "mean", "range")
"""What the four lines before the layers hold; the last entry of `mean` and `range` is that of the outputs."""


def arrays(path: Path) -> dict[str, Float[np.ndarray, "..."]]:
    """Weight and bias of each layer, `weights[0]`, `biases[0]`, `weights[1]`, ..., in float64, then the normalisation.

    After the comments, if there are any: the number of layers, all widths, one unused line, four lines of normalisation, and for
    each layer the rows of its weight and then the entries of its bias, one a line.

    Raises:
        UnreadableFile: truncated or damaged.
    """
    with refuse_damaged(path, "a .nnet file"):
        text = content(path).decode("utf-8").splitlines()
        rows = (line for line in text if line.strip() and not line.lstrip().startswith("//"))
        layers = int(_numbers(next(rows, ""))[0])
        sizes = [int(size) for size in _numbers(next(rows, ""))]
        if len(sizes) != layers + 1:
            raise ValueError(f"{layers} layers need {layers + 1} widths, not {len(sizes)}")
        next(rows, None)  # not used by anybody
        scales = {name: np.array(_numbers(next(rows, ""))) for name in NORMALISATION}
        found = dict[str, np.ndarray]()
        for i in range(layers):
            found[f"weights[{i}]"], found[f"biases[{i}]"] = _layer(rows, sizes[i], sizes[i + 1])
        if next(rows, None) is not None:
            raise ValueError("it holds more lines than its layers take")
        return {**found, **scales}


def _layer(
    rows: Iterator[str], inputs: int, outputs: int
) -> tuple[Float[np.ndarray, "out in"], Float[np.ndarray, " out"]]:
    weight = [_numbers(row) for row in islice(rows, outputs)]
    bias = [_numbers(row) for row in islice(rows, outputs)]
    lengths = {len(row) for row in weight}, {len(row) for row in bias}
    if (len(weight), len(bias), *lengths) != (outputs, outputs, {inputs}, {1}):
        raise ValueError(f"a layer of {outputs} x {inputs} is incomplete")
    return np.array(weight), np.array(bias).reshape(-1)


def _numbers(line: str) -> list[float]:
    return [float(number) for number in line.split(",") if number.strip()]
