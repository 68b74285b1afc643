"""Propagation along edges: its norm, its form in the network graph and in files, and constants of single nodes."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

import sdplip
from sdplip.errors import InvalidProblem, InvalidWeight, RefusedModule
from sdplip.network.read.torch import understand_module
from sdplip.nn import (
    Concatenate,
    LastLayerNormalised,
    MaxMin,
    PadChannels,
    Propagate,
    Residual,
    Scale,
    Sum,
    export_plain,
    lipschitz,
    normalised_adjacency,
    orthogonal,
    save_onnx,
)
from sdplip.nn.bounds.propagation import norm_of_edges
from sdplip.robustness.forward_error import Affine, output_error
from sdplip.robustness.graphs import node_constants, node_radii

NODES, FEATURES = 12, 4


def random_graph(seed=0, nodes=NODES, share=0.2):
    A = (np.random.default_rng(seed).random((nodes, nodes)) < share) * 1.0
    return np.maximum(A, A.T) * (1 - np.eye(nodes))


def hat(seed=0):
    return normalised_adjacency(random_graph(seed)).float()


def signed(seed=0):
    torch.manual_seed(seed)
    return torch.randn(NODES, NODES) * (torch.rand(NODES, NODES) < 0.3)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        Propagate(hat(seed)), orthogonal(nn.Linear(FEATURES, 6)), MaxMin(-1), Propagate(signed(seed)), nn.Linear(6, 3)
    ).eval()  # fmt: skip


MODULES = {
    "normalised": lambda: Propagate(hat()),
    "signed": lambda: Propagate(signed()),
    "chain": network,
    "skip": lambda: Residual(nn.Sequential(Propagate(hat()), nn.Linear(FEATURES, FEATURES), nn.ReLU())),
    "sum": lambda: Sum([Propagate(hat()), nn.Linear(FEATURES, FEATURES), Scale(-0.5)]),
    "side by side": lambda: Concatenate(
        [Propagate(hat()), nn.Sequential(Propagate(signed()), nn.Tanh())], -1
    ),
}


def jacobian(module, x):
    """`(nodes, outputs, nodes, features)` at the features of one graph, in double precision."""
    return torch.autograd.functional.jacobian(lambda X: module(X[None])[0], x.double())


@pytest.mark.parametrize("nodes", [1, 5, 40])
def test_the_norm_is_at_least_that_of_the_matrix_and_tight_for_nonnegative_ones(nodes):
    A = np.random.default_rng(nodes).random((nodes, nodes)) * (
        np.random.default_rng(1).random((nodes, nodes)) < 0.3
    )
    found, true = norm_of_edges(sparse.csr_array(A)), np.linalg.norm(A, 2)
    assert true <= found <= true * (1 + 1e-9) + 1e-30


def test_parts_of_a_graph_that_are_not_connected_are_each_weighed_by_themselves():
    star = np.zeros((6, 6))
    star[0, 1:] = star[1:, 0] = 0.4  # norm 0.4 sqrt 5 = 0.894, row sums up to 2
    A = sparse.block_array([[star, None], [None, 3 * np.ones((2, 2))]]).toarray()
    assert norm_of_edges(sparse.csr_array(A)) == pytest.approx(6, rel=1e-9)


def test_the_normalised_adjacency_of_a_path_is_known():
    """Path of three nodes with loops: degrees 2, 3, 2."""
    path = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    root = 1 / 6**0.5
    found = normalised_adjacency(path).to_dense().numpy()
    assert np.allclose(found, [[1 / 2, root, 0], [root, 1 / 3, root], [0, root, 1 / 2]], atol=1e-15)
    assert 1 <= lipschitz(Propagate(found)).value <= 1 + 1e-9


@pytest.mark.parametrize("kind", ["dense", "torch", "scipy", "array"])
def test_every_way_to_give_the_matrix_is_the_same_layer(kind):
    A = signed()
    layer = Propagate(
        {"dense": A, "torch": A.to_sparse(), "scipy": sparse.coo_array(A.numpy()), "array": A.numpy()}[kind]
    )
    x = torch.randn(2, NODES, 3, 5)
    assert torch.allclose(layer(x), torch.einsum("ij,bjkl->bikl", A, x), atol=1e-5)
    assert layer(x[..., 0, 0]).shape == (2, NODES)


@pytest.mark.parametrize("name", MODULES)
def test_constants_of_nodes_hold_at_every_jacobian(name):
    module, x = MODULES[name]().double().eval(), torch.randn(NODES, FEATURES)
    J = jacobian(module, x).permute(0, 2, 1, 3)  # (node, node of the input, outputs, features)
    constants = node_constants(module, (NODES, FEATURES))
    last = module[-1] if name == "chain" else None
    norm = 1.0 if last is None else float(torch.linalg.matrix_norm(last.weight.detach(), 2))
    K = constants.influence.toarray() * norm * (1 + 1e-12)
    assert (torch.linalg.matrix_norm(J, 2).numpy() <= K).all()
    rows = torch.linalg.matrix_norm(J.permute(0, 2, 1, 3).reshape(NODES, J.shape[2], -1), 2).numpy()
    assert (rows <= constants.of("all") * norm * (1 + 1e-12)).all()
    assert np.array_equal(constants.of("one"), constants.influence.toarray().max(1))
    assert np.array_equal(constants.of(3), constants.influence.toarray()[:, 3])


def test_propagation_alone_gives_the_powers_of_the_matrix():
    A = hat()
    model = nn.Sequential(Propagate(A), Propagate(A), LastLayerNormalised(FEATURES, 3)).eval()
    powers = A.to_dense().double() @ A.to_dense().double()
    constants = node_constants(model, (NODES, FEATURES))
    assert np.allclose(constants.influence.toarray(), powers, rtol=1e-12, atol=0)
    assert np.allclose(constants.of(), np.linalg.norm(powers, axis=1), rtol=1e-12)
    assert constants.of().max() < lipschitz(model[:2]).value


@pytest.mark.parametrize("attacked", ["all", "one", 5])
def test_no_attack_within_a_radius_changes_a_node(attacked):
    model, x = network(1).double(), torch.randn(NODES, FEATURES).double()
    found = node_radii(model, x, attacked=attacked)
    assert found.rounding == "proven" and (found.radius >= 0).all()
    assert np.array_equal(found.prediction, model(x[None])[0].argmax(1).numpy())
    y = torch.from_numpy(found.prediction)
    for node in range(NODES):
        free = range(NODES) if attacked == "one" else [attacked] if attacked == 5 else [None]
        for moved in free:
            z = x.clone().requires_grad_()
            s = model(z[None])[0, node]
            rivals = s.detach().clone()
            rivals[y[node]] = -torch.inf
            (s[y[node]] - s[rivals.argmax()]).backward()
            step = (
                z.grad
                if moved is None
                else torch.zeros_like(x).index_copy(0, torch.tensor([moved]), z.grad[[moved]])
            )
            if not step.norm() > 0:
                continue
            end = x - step / step.norm() * found.radius[node] * (1 - 1e-9)
            assert model(end[None])[0, node].argmax() == y[node]


def test_radii_are_reached_where_nothing_is_lost():
    """One node, two rows of length 1: margin (x - y)_0 sqrt 2 / sqrt 2 against a move along the same line."""
    model = nn.Sequential(Propagate(torch.eye(2) * 0.5), nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
    found = node_radii(model, torch.tensor([[3.0, 1.0], [0.0, 5.0]]))
    assert found.radius == pytest.approx(
        [2**0.5, 5 / 2**0.5], rel=2e-6
    )  # distances of rows are rounded up by 2^-20
    assert (found.radius < [2**0.5, 5 / 2**0.5]).all()


def test_a_node_that_nothing_reaches_keeps_its_class():
    A = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = node_radii(nn.Sequential(Propagate(A), nn.Linear(2, 2)).eval(), torch.randn(2, 2), attacked=1)
    assert found.radius[0] == 2.0**20


@pytest.mark.parametrize("name", ["signed", "chain", "sum", "side by side"])
def test_it_is_read_as_one_linear_map_and_runs_the_same(name):
    module, x = MODULES[name]().eval(), torch.randn(3, NODES, FEATURES)
    network = understand_module(module, (NODES, FEATURES)).network
    y = module.double()(x.double()).detach().flatten(1).numpy()
    assert np.allclose(network(x.double().flatten(1).numpy()), y, atol=1e-6)
    assert sum(type(node.op).__name__ == "OnAxis" for node in network.nodes)


def test_a_graph_too_large_for_a_dense_matrix_is_read_edge_by_edge(monkeypatch):
    monkeypatch.setattr("sdplip.nn.graph.LARGEST", 10)
    module, x = Propagate(signed()).eval(), torch.randn(2, NODES, FEATURES)
    network = understand_module(module, (NODES, FEATURES)).network
    assert {type(node.op).__name__ for node in network.nodes} == {"Gather", "Diagonal", "Scatter"}
    y = module.double()(x.double()).flatten(1).numpy()
    assert np.allclose(network(x.double().flatten(1).numpy()), y, atol=1e-6)


def test_onnx_files_hold_it(tmp_path):
    model = network().float()
    bound = save_onnx(model, tmp_path / "graph.onnx", input_shape=(NODES, FEATURES))
    assert sdplip.bound(tmp_path / "graph.onnx", "product").bound == pytest.approx(bound.value, rel=1e-6)
    assert export_plain(model, input_shape=(NODES, FEATURES)).bound.value == pytest.approx(bound.value)


def test_the_forward_error_is_bounded():
    model, x = network(2).float(), torch.randn(5, NODES, FEATURES)
    y, error, _ = output_error(model, lipschitz(model, input_shape=(NODES, FEATURES)))(
        x, Affine(np.zeros(5), 1.0)
    )
    true = export_plain(model).model.double()(x.double())
    lost = (true - y.double()).flatten(1).norm(dim=1).detach().numpy()
    assert (lost <= error.constant).all() and (error.constant < 1e-3).all() and lost.max() > 0


def test_what_is_no_graph_layer_is_refused():
    with pytest.raises(InvalidWeight, match="square"):
        Propagate(torch.ones(2, 3))
    with pytest.raises(InvalidWeight, match="NaN"):
        Propagate(torch.tensor([[torch.nan]]))
    with pytest.raises(InvalidWeight, match="negative"):
        normalised_adjacency(-torch.ones(2, 2))
    with pytest.raises(InvalidWeight, match="no neighbour"):
        normalised_adjacency(torch.zeros(2, 2), loops=False)
    with pytest.raises(ValueError, match="whole graph"):
        Propagate(hat())(torch.ones(1, NODES + 1, 2))
    with pytest.raises(RefusedModule, match="another number"):
        lipschitz(Propagate(hat()), input_shape=(NODES + 1, 2))
    for mixing in (PadChannels(2), MaxMin(), nn.Flatten(), nn.Softmax(1)):
        with pytest.raises(RefusedModule, match="constants of nodes"):
            node_constants(nn.Sequential(mixing), (NODES, FEATURES))
    with pytest.raises(InvalidProblem, match="whole graph"):
        node_radii(network(), torch.randn(1, NODES, FEATURES))
    with pytest.raises(InvalidProblem, match="'all', 'one'"):
        node_constants(network(), (NODES, FEATURES)).of(NODES)


def test_edges_changed_behind_its_back_are_refused():
    layer = Propagate(hat())
    layer.edges[:, 1] = layer.edges[:, 0]
    with pytest.raises(RefusedModule, match="each once"):
        lipschitz(layer)
