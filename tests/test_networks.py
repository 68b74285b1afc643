"""Networks as data: widths and slopes checked, loaders agree, everything else refused by name."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sdplip.networks import SLOPES, Activation, Affine, Network, chain_of, from_weights
from sdplip.networks.onnx import from_onnx
from sdplip.networks.torch import from_module
from torch import nn

from sdplip.bounds import bound, jacobian
from sdplip.errors import InvalidWeight
from sdplip.weights import read


def small_module() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 4), nn.ReLU()), nn.Linear(4, 3)
    )


def save_onnx(path, nodes: list, arrays: dict[str, np.ndarray], inputs: int) -> None:
    """A graph from "x" to "y" with these nodes (operator, inputs, output) and constants."""
    graph = helper.make_graph(
        [helper.make_node(kind, names, [output], **options) for kind, names, output, options in nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph), path)


def test_same_network_from_torch_onnx_and_npz(tmp_path):
    module = small_module().eval()
    a, b, c = (p.detach().numpy() for p in module.parameters() if p.ndim == 2)
    u, v, w = (p.detach().numpy() for p in module.parameters() if p.ndim == 1)
    nodes = [
        ("Flatten", ["x"], "x1", {}),
        ("Gemm", ["x1", "a", "u"], "x2", {"transB": 1}),
        ("Relu", ["x2"], "x3", {}),
        ("MatMul", ["x3", "b"], "x4", {}),
        ("Add", ["v", "x4"], "x5", {}),
        ("Relu", ["x5"], "x6", {}),
        ("Gemm", ["x6", "c", "w"], "y", {"transB": 1}),
    ]
    constants = {"a": a, "b": np.ascontiguousarray(b.T), "c": c, "u": u, "v": v, "w": w}
    save_onnx(tmp_path / "net.onnx", nodes, constants, 6)
    matrices = {f"w{i}": p.detach().numpy() for i, p in enumerate(module.parameters()) if p.ndim == 2}
    np.savez(tmp_path / "net.npz", **matrices)
    networks = [
        from_module(module),
        from_onnx(tmp_path / "net.onnx"),
        from_weights(read(tmp_path / "net.npz")),
    ]
    values = {bound(network, "riccati").value for network in networks}
    assert len(values) == 1


def test_jacobian_is_that_of_torch():
    module = small_module().double().eval()
    x = np.random.default_rng(0).normal(size=6)
    expected = torch.autograd.functional.jacobian(module, torch.tensor(x)[None])[0, :, 0].numpy()
    np.testing.assert_allclose(jacobian(from_module(module), x), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [k for k in SLOPES if k != "abs"])
def test_slopes_hold_for_torchs_own_functions(kind):
    functions = {"identity": lambda x: x, "abs": torch.abs}
    f = functions.get(kind) or getattr(torch.nn.functional, kind)
    x = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    quotients = torch.diff(f(x)) / torch.diff(x)
    alpha, beta = SLOPES[kind]
    assert (
        alpha - 1e-9 <= float(quotients.min()) and float(quotients.max()) <= beta + 1e-9
    )  # 1e-9: rounding of the quotient


def test_leading_and_trailing_activations_get_identities():
    W = np.random.default_rng(1).normal(size=(3, 2))
    chain = chain_of(Network((Activation(kind="relu"), Affine(W), Activation(0.0, 0.25, "sigmoid"))))
    assert [V.shape for V in chain.weights] == [(2, 2), (3, 2), (3, 3)]
    assert [float(b[0]) for _, b in chain.slopes] == [1.0, 0.25]


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)),
        nn.Sequential(nn.Conv2d(1, 1, 3)),
        nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5).train(), nn.ReLU()),
        nn.Sequential(nn.Linear(2, 2), nn.GELU(approximate="tanh")),
        nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
    ],
)
def test_what_is_not_covered_is_refused(module):
    with pytest.raises(InvalidWeight, match=r"not covered|random|follow|samples of shape"):
        from_module(module)


def test_hooks_and_subclasses_are_refused():
    class Twice(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    hooked = nn.Sequential(nn.Linear(2, 2))
    hooked[0].register_forward_hook(lambda _m, _x, y: 2 * y)
    for module in (nn.Sequential(Twice(2, 2)), hooked):
        with pytest.raises(InvalidWeight, match=r"Twice|hook"):
            from_module(module)


def test_a_parametrization_counts_with_its_own_weight():
    layer = nn.Linear(3, 3)
    nn.utils.parametrizations.spectral_norm(layer).eval()
    network = from_module(nn.Sequential(layer))
    np.testing.assert_array_equal(network.layers[0].W, layer.weight.detach().double().numpy())


@pytest.mark.parametrize(
    "node",
    [
        ("Softmax", ["h"], "y", {}),
        ("Add", ["h", "h"], "y", {}),
        ("Mul", ["h", "x"], "y", {}),
        ("Gemm", ["h", "a", "a"], "y", {"beta": 2.0}),
        ("MatMul", ["x", "a"], "y", {}),
    ],
)
def test_unknown_onnx_nodes_and_branches_are_refused(tmp_path, node):
    save_onnx(
        tmp_path / "net.onnx", [("MatMul", ["x", "a"], "h", {}), node], {"a": np.eye(2, dtype=np.float32)}, 2
    )
    with pytest.raises(InvalidWeight, match=r"not covered|does not continue"):
        from_onnx(tmp_path / "net.onnx")


def test_wrong_data_is_refused():
    W = np.ones((2, 3))
    with pytest.raises(InvalidWeight, match="takes 3"):
        from_weights([W, W])
    with pytest.raises(InvalidWeight, match="not known"):
        from_weights([W], "swoosh")
    with pytest.raises(InvalidWeight, match="alpha <= beta"):
        Network((Affine(W), Activation(1.0, 0.0)))
    with pytest.raises(InvalidWeight, match="one number, or 2"):
        Network((Affine(W), Activation(np.zeros(3), np.ones(3))))
    with pytest.raises(InvalidWeight, match="bias"):
        Network((Affine(W, np.ones(3)),))
    with pytest.raises(InvalidWeight, match="at least one"):
        Network((Activation(),))
    with pytest.raises(InvalidWeight, match="only matrices"):
        from_weights([np.ones((2, 2, 3, 3))])
