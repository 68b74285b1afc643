"""Convolutional networks as data: dense matrices against torch, loaders agree, what is not understood is refused by name."""

import numpy as np
import pytest
import torch
from sdplip.networks import AveragePool, Convolution, MaxPool
from torch import nn

from sdplip.convolution.dense import dense_matrix
from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry

GEOMETRIES = {
    "same": ((5, 3, 3, 3), Geometry(image_size=(6, 7))),
    "valid": ((5, 3, 3, 3), Geometry(padding=0, image_size=(6, 7))),
    "padded": ((4, 2, 2, 4), Geometry(padding=1, stride=2, image_size=(8, 9))),
    "dilated": ((4, 2, 3, 3), Geometry(padding=2, dilation=(1, 2), image_size=(7, 8))),
    "grouped": ((6, 2, 3, 3), Geometry(padding=1, groups=3, image_size=(5, 6))),
    "circular": ((4, 3, 3, 3), Geometry(padding_mode="circular", padding=1, image_size=(6, 8))),
    "circular strided": (
        (4, 3, 3, 3),
        Geometry(padding_mode="circular", padding=1, stride=2, image_size=(6, 8)),
    ),
    "one axis": ((4, 3, 5), Geometry(padding=2, image_size=(9,))),
    "three axes": ((2, 2, 2, 3, 2), Geometry(padding=1, image_size=(3, 4, 3))),
}


def torch_module(K: np.ndarray, geometry: Geometry) -> nn.Module:
    kinds = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    g = geometry.expand(K.shape)
    module = kinds[K.ndim](
        K.shape[1] * g.groups,
        len(K),
        K.shape[2:],
        stride=g.stride,
        padding="same" if g.padding is None else g.padding,
        dilation=g.dilation,
        groups=g.groups,
        bias=False,
        padding_mode=g.padding_mode,
    )
    module.weight.data = torch.tensor(K)
    return module


def torch_matrix(module: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    n = int(np.prod(shape))
    with torch.no_grad():
        return module(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).reshape(n, -1).numpy().T


@pytest.mark.parametrize("case", GEOMETRIES)
def test_dense_matrix_is_that_of_torch_and_of_the_oracle(case):
    shape, geometry = GEOMETRIES[case]
    K = np.random.default_rng(0).normal(size=shape)
    layer = Convolution(K, geometry)
    W = layer.matrix()
    assert W.shape == (layer.outputs, layer.inputs)
    np.testing.assert_array_equal(
        W, torch_matrix(torch_module(K, geometry), (layer.channels, *layer.image_size))
    )
    np.testing.assert_array_equal(W, dense_matrix(K, geometry))
    rows, columns, _ = layer.entries()
    assert len(np.unique(np.stack([rows, columns]), axis=1).T) == len(rows)  # every place once


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 3, 0), (5, 5, 0)])
def test_average_pooling_is_that_of_torch(window, stride, padding, count_padding):
    pool = AveragePool(2, (7, 6), (window,) * 2, (stride,) * 2, (padding,) * 2, count_padding)
    module = nn.AvgPool2d(window, stride, padding, count_include_pad=count_padding)
    expected = torch_matrix(module, (2, 7, 6))
    np.testing.assert_allclose(pool.matrix(), expected, rtol=1e-15)


@pytest.mark.parametrize(("window", "stride", "overlap"), [(2, 2, 1), (3, 2, 4), (3, 1, 9), (2, 3, 1)])
def test_a_pixel_lies_in_at_most_as_many_windows_as_overlap_says(window, stride, overlap):
    pool = MaxPool(1, (9, 9), (window,) * 2, (stride,) * 2, (0, 0))
    assert pool.overlap == overlap
    assert pool.windows.sum(0).max() <= overlap


@pytest.mark.parametrize(
    ("shape", "geometry", "reason"),
    [
        ((2, 2, 3, 3), Geometry(), "size of its image"),
        ((2, 2, 3, 3), Geometry(padding=0, image_size=(2, 2)), "does not fit"),
        ((2, 2, 3, 3), Geometry(padding_mode="reflect", image_size=(5, 5)), "reflect"),
        ((2, 2), Geometry(image_size=(5, 5)), "one to three image axes"),
    ],
)
def test_impossible_convolutions_are_refused(shape, geometry, reason):
    with pytest.raises(ValueError, match=reason):
        Convolution(np.ones(shape), geometry)


def test_a_bias_of_another_length_is_refused():
    with pytest.raises(InvalidWeight, match="bias"):
        Convolution(np.ones((2, 1, 3, 3)), Geometry(image_size=(4, 4)), np.ones(3))
