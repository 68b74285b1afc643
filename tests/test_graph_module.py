"""The torch module of a graph computes what the graph computes, gradients included."""

import numpy as np
import pytest
import torch

from sdplip.network import Convolution, Dense, Transposed, chain
from sdplip.robustness.graph_module import GraphModule
from tests.test_network_file import everything


def test_values_and_jacobian():
    network = everything()
    module = GraphModule(network)
    x = np.random.default_rng(0).normal(size=(3, 32))
    assert np.allclose(
        module(torch.from_numpy(x).reshape(3, 2, 4, 4)).numpy(), network(x), rtol=1e-12, atol=1e-12
    )
    J = torch.autograd.functional.jacobian(lambda v: module(v[None])[0], torch.from_numpy(x[0]))
    step = 1e-6 * np.random.default_rng(1).normal(size=32)
    assert np.allclose(J.numpy() @ step, network(x[0] + step) - network(x[0]), rtol=1e-3, atol=1e-10)


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_and_their_transposes(circular, groups):
    rng = np.random.default_rng(2)
    K = rng.normal(size=(4, 4 // groups, 3, 2))
    op = Convolution(K, (6, 8), (2, 1), ((1, 1), (0, 1)), (1, 1), groups, circular)
    for linear in (op, Transposed(op)):
        network = chain([linear, Dense(rng.normal(size=(2, linear.outputs)))])
        x = rng.normal(size=(2, network.inputs))
        assert np.allclose(GraphModule(network)(torch.from_numpy(x)).numpy(), network(x))
