"""What `check` reads of ONNX graphs, layer by layer: padding, weights that are computed, foreign operators."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.weights import read
from tests.onnx_graphs import VECTOR, Graph, saved, single

LINE = ("N", 1, 9)


def line(g: Graph, taps: int = 3) -> str:
    return g.constant(np.full((1, 1, taps), 0.3))


def test_widths_that_are_computed_from_constants_count(tmp_path: Path) -> None:
    body = lambda g, x: g(  # noqa: E731
        "Conv",
        g("Pad", x, g("Concat", np.array([0, 0]), np.array([1, 0, 0, 1]), axis=0), mode="wrap"),
        line(g),
    )
    (weight,) = read(saved(single(body, LINE), tmp_path))
    assert weight.geometry is not None
    assert (weight.geometry.padding_mode, weight.geometry.padding) == ("circular", (1,))
    wide = lambda g, x: g(  # noqa: E731
        "Conv",
        g("Pad", x, g("Concat", np.array([0, 0, 5, 0]), np.array([0, 5]), axis=0), mode="wrap"),
        line(g),
    )
    (weight,) = read(saved(single(wide, LINE), tmp_path))
    assert weight.geometry is not None
    assert weight.geometry.padding == (5,)
    with pytest.raises(UnsupportedConvolution, match="repeats output pixels"):
        weight.geometry.expand(weight.array.shape)


@pytest.mark.parametrize("options", [{"pads": [1, 1]}, {"auto_pad": "SAME_UPPER"}])
def test_pixels_around_and_zeros_are_not_added_up(options: dict, tmp_path: Path) -> None:
    body = lambda g, x: g(  # noqa: E731
        "Conv", g("Pad", x, np.array([0, 0, 1, 0, 0, 1]), mode="wrap"), line(g, 5), **options
    )
    with pytest.raises(UnsupportedConvolution, match="pads with zeros"):
        read(saved(single(body, LINE), tmp_path))


def test_unequal_and_unknown_widths_around_are_refused(tmp_path: Path) -> None:
    body = lambda g, x: g("Conv", g("Pad", x, np.array([0, 0, 2, 0, 0, 1]), mode="wrap"), line(g))  # noqa: E731
    with pytest.raises(UnsupportedConvolution, match="before it"):
        read(saved(single(body, LINE), tmp_path))
    body = lambda g, x: g(  # noqa: E731
        "Conv", g("Pad", x, g("Cast", g("Flatten", g("ReduceMax", x)), to=7), mode="wrap"), line(g)
    )
    with pytest.raises(InvalidWeight, match="not a constant"):
        read(saved(single(body, LINE), tmp_path))
    body = lambda g, x: g(  # noqa: E731
        "Conv",
        g(
            "Identity",
            g("Pad", g("Pad", x, np.array([0, 0, 1, 0, 0, 1]), mode="wrap"), np.array([0, 0, 1, 0, 0, 1])),
        ),
        line(g, 5),
    )
    with pytest.raises(InvalidWeight, match="padded already"):
        read(saved(single(body, LINE), tmp_path))


def test_zeros_of_a_pad_node_and_of_the_convolution_are_one_padding(tmp_path: Path) -> None:
    body = lambda g, x: g("Conv", g("Pad", x, np.array([0, 0, 1, 0, 0, 1])), line(g, 5), pads=[1, 1])  # noqa: E731
    (weight,) = read(saved(single(body, LINE), tmp_path))
    assert weight.geometry is not None
    assert (weight.geometry.padding_mode, weight.geometry.padding) == ("zeros", (2,))


def test_weights_that_are_computed_from_constants_are_computed(tmp_path: Path) -> None:
    W = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    body = lambda g, x: g("MatMul", x, g("Div", g.constant(W), np.float32(4)))  # noqa: E731
    (weight,) = read(saved(single(body, VECTOR), tmp_path))
    assert np.array_equal(weight.array, W.T / 4)


@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Conv"])
def test_layers_of_foreign_domains_are_refused(kind: str, tmp_path: Path) -> None:
    model = single(lambda g, x: g(kind, x, g.normal(6, 2), domain="my"), VECTOR)
    model.opset_import.append(helper.make_opsetid("my", 1))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(InvalidWeight, match="domain `my`"):
        read(tmp_path / "net.onnx")
