"""Rule `residual`: the same number as `lipschitz`, above every Jacobian, and nothing less is proven."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sdplip.bounds.methods.product import layers_proof, product_proof
from sdplip.bounds.methods.residual import residual_spans
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.network import Activation, Builder, Convolution, Dense, Diagonal, OnAxis, Sum, Transposed
from sdplip.network.jacobian import derivative
from sdplip.nn import lipschitz
from sdplip.nn.models import DIGITS, FAMILIES, residual_network


def layer(A, step, h=1.0, activation="relu"):
    b = Builder((A.inputs,))
    v = b.add(Activation(activation, A.outputs), b.add(A, 0))
    v = b.add(Transposed(A), b.add(Diagonal(step), v))
    skip = 0 if h == 1 else b.add(Diagonal(np.full(A.inputs, h)), 0)
    return b.finish(b.add(Sum((1, -1), A.inputs), skip, v))


def maps(rng):
    return {
        "dense": Dense(rng.normal(size=(6, 4)), rng.normal(size=6)),
        "axis": OnAxis(rng.normal(size=(5, 3)), 2, 2),
        "convolution": Convolution(rng.normal(size=(4, 2, 3)), (6,), (1,), ((1, 1),), (1,)),
        "strided": Convolution(rng.normal(size=(4, 2, 3, 3)), (4, 6), (2, 1), ((1, 1), (0, 1)), (1, 1), 1),
        "circular": Convolution(rng.normal(size=(4, 2, 3)), (6,), (1,), ((1, 1),), (1,), 1, True),
    }


@pytest.mark.parametrize("kind", list(maps(np.random.default_rng(0))))
@pytest.mark.parametrize(("h", "scale"), [(1.0, 0.1), (1.0, 3.0), (0.4, 0.5), (-0.5, 0.2), (1.0, 0.0)])
def test_bound_is_above_every_jacobian_and_attained_by_slopes(kind, h, scale):
    rng = np.random.default_rng(1)
    A = maps(rng)[kind]
    step = scale * rng.uniform(0, 1, A.outputs)
    if isinstance(A, Convolution):
        step = np.repeat(step[: len(A.K)], A.outputs // len(A.K))
    if isinstance(A, OnAxis):
        step = np.tile(np.repeat(step[:5], 2), 2)
    network = layer(A, step, h)
    ((start, end, proof),) = residual_spans(network)
    assert (start, end) == (0, network.output)
    bound = conclude(Goal(network), proof)
    M = A.dense()
    slopes = [np.linalg.norm(h * np.eye(A.inputs) - M.T @ ((step * d)[:, None] * M), 2)
              for d in (np.zeros(A.outputs), np.ones(A.outputs), *rng.uniform(0, 1, (20, A.outputs)))]  # fmt: skip
    assert bound >= max(slopes) * (1 - 1e-12)
    found = [np.linalg.norm(derivative(network, x).matrix(), 2) for x in rng.normal(size=(20, A.inputs)) * 3]
    assert bound >= max(found) * (1 - 1e-12)
    if kind in ("dense", "axis", "circular"):  # elsewhere the proof is about larger images
        assert bound <= max(abs(h), slopes[1]) * (1 + 1e-6) + 1e-9
    if "c" in proof.data and bound > abs(h):
        with pytest.raises(NotProvable):
            conclude(Goal(network), replace(proof, data={**proof.data, "c": proof.data["c"] * (1 - 1e-6)}))


def test_what_is_no_residual_layer_is_refused():
    rng = np.random.default_rng(2)
    A, B = Dense(rng.normal(size=(3, 3))), Dense(rng.normal(size=(3, 3)))
    b = Builder((3,))
    v = b.add(Transposed(B), b.add(Activation("relu", 3), b.add(A, 0)))  # another map down than up
    other = b.finish(b.add(Sum((1, -1), 3), 0, v))
    for network in (other, layer(A, np.ones(3), activation="gelu")):  # gelu has slopes below 0
        assert residual_spans(network) == []
        with pytest.raises(NotProvable, match="residual"):
            conclude(Goal(network), Proof("residual", {"c": 100.0}))
    b = Builder((3,))
    v = b.add(Transposed(A), b.add(Activation("relu", 3), b.add(A, 0)))
    plus = b.finish(b.add(Sum((1, 1), 3), 0, v))
    assert residual_spans(plus) == [] and conclude(Goal(plus), product_proof(plus)) > 1


@pytest.mark.parametrize("data", [{}, {"c": -1.0}, {"c": "x"}, {"c": float("nan")}, {"c": 0.0}])
def test_data_are_checked(data):
    network = layer(Dense(np.eye(2)), np.full(2, 3.0))
    with pytest.raises(NotProvable):
        conclude(Goal(network), Proof("residual", data))


@pytest.mark.parametrize("family", ["sll", "aol", "cpl"])
def test_presets_have_the_number_of_lipschitz(family):
    from sdplip.network.read.torch import read_module

    torch.manual_seed(0)
    model = residual_network(replace(DIGITS, convolutions=1, dense=1), FAMILIES[family]).double().eval()
    network = read_module(model, (1, 8, 8))
    bound = conclude(Goal(network), layers_proof(network, residual_spans(network)))
    assert bound == pytest.approx(lipschitz(model, input_shape=(1, 8, 8)).value, rel=1e-6)
