"""Convolutions and windows as linear maps: bit for bit the matrices of torch; what is impossible is refused by name."""

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.convolution.dense import dense_matrix
from sdplip.errors import InvalidWeight, SdplipError
from sdplip.geometry import Geometry
from sdplip.network import Activation, Average, Concatenate, Convolution, Dense, Maximum, Sum, pooling_windows

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


@pytest.mark.parametrize(
    "make",
    [
        lambda: Activation("", 2, {}, np.zeros(3), np.zeros(3)),
        lambda: Activation("relu", 2, {}, np.zeros((2, 1)), np.ones(2)),
        lambda: Activation("relu", 0),
        lambda: Activation("relu", -1),
        lambda: Activation("relu", 2.5),  # pyright: ignore[reportArgumentType]
        lambda: Dense([[1, 2], [3]]),  # pyright: ignore[reportArgumentType]
        lambda: Sum((1, -1), 0),
        lambda: Concatenate(()),
        lambda: Concatenate((1, -1)),
    ],
)
def test_numbers_that_do_not_fit_are_refused_in_words(make):
    with pytest.raises(InvalidWeight):
        make()


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


def convolution(K: np.ndarray, geometry: Geometry) -> Convolution:
    g = geometry.expand(K.shape)
    reach = [d * (k - 1) for d, k in zip(g.dilation, K.shape[2:], strict=True)]
    pads = tuple((r // 2, r - r // 2) for r in reach)
    if g.padding is not None:
        pads = tuple((p, p) for p in g.padding)
    return Convolution(K, g.image_size, g.stride, pads, g.dilation, g.groups, g.padding_mode == "circular")


@pytest.mark.parametrize("case", GEOMETRIES)
def test_dense_matrix_is_that_of_torch_and_of_the_oracle(case):
    shape, geometry = GEOMETRIES[case]
    K = np.random.default_rng(0).normal(size=shape)
    op = convolution(K, geometry)
    W = op.dense()
    assert W.shape == (op.outputs, op.inputs)
    np.testing.assert_array_equal(W, torch_matrix(torch_module(K, geometry), (op.channels, *op.image_size)))
    np.testing.assert_array_equal(W, dense_matrix(K, geometry))
    np.testing.assert_array_equal(W, op.adjoint(np.eye(op.outputs)))
    np.testing.assert_array_equal(W, op.apply(np.eye(op.inputs)).T)
    assert (op.absolute().dense() == abs(W)).all() and (W != 0).sum(1).max() <= op.terms
    assert (W != 0).sum(0).max() <= op.adjoint_terms


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 3, 0), (5, 5, 0)])
def test_average_pooling_is_that_of_torch(window, stride, padding, count_padding):
    index = pooling_windows(2, (7, 6), (window,) * 2, (stride,) * 2, ((padding,) * 2,) * 2)
    count = np.full(len(index), window**2) if count_padding else (index >= 0).sum(1)
    pool = Average(index, count.astype(float), 84)
    module = nn.AvgPool2d(window, stride, padding, count_include_pad=count_padding)
    np.testing.assert_allclose(pool.dense(), torch_matrix(module, (2, 7, 6)), rtol=1e-15)
    np.testing.assert_allclose(pool.adjoint(np.eye(pool.outputs)), pool.apply(np.eye(84)).T, rtol=1e-15)


@pytest.mark.parametrize(("window", "stride", "overlap"), [(2, 2, 1), (3, 2, 4), (3, 1, 9), (2, 3, 1)])
def test_a_pixel_lies_in_at_most_as_many_windows_as_overlap_says(window, stride, overlap):
    index = pooling_windows(1, (9, 9), (window,) * 2, (stride,) * 2, ((0, 0),) * 2)
    assert Maximum(index, 81).overlap == overlap
    assert np.bincount(index.reshape(-1)).max() == overlap


@pytest.mark.parametrize(
    ("shape", "geometry", "reason"),
    [
        ((2, 2, 3, 3), Geometry(padding=0, image_size=(2, 2)), "does not fit"),
        (
            (2, 2, 3, 3),
            Geometry(padding_mode="circular", stride=2, padding=1, image_size=(5, 5)),
            "circular padding",
        ),
    ],
)
def test_impossible_convolutions_are_refused(shape, geometry, reason):
    with pytest.raises(SdplipError, match=reason):
        convolution(np.ones(shape), geometry)


def test_other_shapes_are_refused():
    for K in (np.ones((2, 2)), np.full((1, 1, 3), np.nan), np.ones((3, 2, 3))):
        with pytest.raises(InvalidWeight):
            Convolution(K, (5,) * max(1, K.ndim - 2), (1,), ((1, 1),), (1,), 2)
    with pytest.raises(InvalidWeight):
        Convolution(np.ones((2, 1, 3)), (4,), (1,), ((1, 1),), (1,), b=np.ones(3))
