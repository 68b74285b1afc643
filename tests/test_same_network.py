"""One network from torch, from ONNX (exported, and node by node) and from a file of weights: one bound."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.bounds import METHODS, bound, jacobian
from sdplip.bounds.task import Task
from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.network import Activation, Dense, Network, chain
from sdplip.network.read.onnx import read_onnx
from sdplip.network.read.torch import read_module
from sdplip.network.read.weights import Assumptions, read_weights_network, weights_network
from sdplip.weights import Weight, read
from tests.commands import answer, invoke
from tests.graphs import by_hand, exported

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (2, 5, 6)
RICCATI = METHODS["riccati"]
VARIANTS = {
    "same": ({"padding": 1}, []),
    "valid": ({"padding": 0}, ["--padding", "0"]),
    "strided": ({"padding": 1, "stride": 2}, ["--padding", "1", "--stride", "2"]),
    "wide": ({"padding": 2, "stride": (1, 2)}, ["--padding", "2", "--stride", "1,2"]),
    "dilated": ({"padding": 2, "dilation": 2}, ["--padding", "2", "--dilation", "2"]),
    "grouped": ({"padding": 1, "groups": 2}, ["--groups", "2"]),
}


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


def test_matrices_from_torch_onnx_and_npz(tmp_path):
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
    np.savez(tmp_path / "net.npz", **{key: value.numpy() for key, value in module.state_dict().items()})
    networks = [
        read_module(module, (6,)),
        read_onnx(tmp_path / "net.onnx").network,
        read_weights_network(tmp_path / "net.npz", biases=True).network,
        weights_network([a, b, c], biases=[u, v, w]),
    ]
    assert len({bound(network, "riccati").value for network in networks}) == 1
    x = np.random.default_rng(0).normal(size=6)
    module = module.double()
    expected = torch.autograd.functional.jacobian(module, torch.tensor(x)[None])[0, :, 0].numpy()
    for network in networks:
        np.testing.assert_allclose(jacobian(network, x), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "kind", ["relu", "relu6", "hardtanh", "tanh", "softsign", "softplus", "sigmoid", "gelu", "silu"]
)
def test_slopes_hold_for_torchs_own_functions(kind):
    assert kind in FUNCTIONS
    x = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    quotients = torch.diff(getattr(torch.nn.functional, kind)(x)) / torch.diff(x)
    op = Activation(kind, 1)
    # 1e-9: rounding of the quotient
    assert op.alpha[0] - 1e-9 <= float(quotients.min()) and float(quotients.max()) <= op.beta[0] + 1e-9


def test_a_parametrization_counts_with_its_own_weight():
    layer = nn.Linear(3, 3)
    nn.utils.parametrizations.spectral_norm(layer).eval()
    (node,) = read_module(nn.Sequential(layer).eval(), (3,)).nodes
    np.testing.assert_array_equal(node.op.dense(), layer.weight.detach().double().numpy())


def test_wrong_data_is_refused():
    W = np.ones((2, 3))
    with pytest.raises(InvalidWeight, match="3"):
        weights_network([W, W])
    with pytest.raises(InvalidWeight, match="no activation `swoosh`"):
        weights_network([W, W.T], "swoosh")
    with pytest.raises(InvalidWeight, match="alpha"):
        chain([Dense(W), Activation("", 2, alpha=np.ones(2), beta=np.zeros(2))])
    with pytest.raises(ValueError):  # noqa: PT011  (InvalidWeight or NumPy's own)
        chain([Dense(W), Activation("", 2, alpha=np.zeros(3), beta=np.ones(3))])
    with pytest.raises(InvalidWeight):
        chain([Dense(W, np.ones(3))])
    with pytest.raises(InvalidWeight, match="at least one"):
        weights_network([])
    with pytest.raises(InvalidWeight, match="image"):
        weights_network([np.ones((2, 2, 3, 3))])


def module(options: dict, *, pool: int | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    front = [nn.Conv2d(2, 4, 3, **options), nn.ReLU(), nn.Conv2d(4, 2, 3, **options), nn.ReLU()]
    front += [nn.MaxPool2d(pool)] if pool else []
    width = nn.Sequential(*front)(torch.zeros(1, *SHAPE)).numel()
    return nn.Sequential(*front, nn.Flatten(), nn.Linear(width, 3)).eval()


def kernels(net: nn.Sequential, options: dict) -> Network:
    geometry = Geometry(**options)
    arrays = [layer.weight.detach().numpy() for layer in net if isinstance(layer, nn.Conv2d | nn.Linear)]
    weights = [Weight(f"w{i}", K, geometry if K.ndim > 2 else None) for i, K in enumerate(arrays)]
    return weights_network(weights, assumptions=Assumptions(image_size=SHAPE[1:]))


def jacobian_of_torch(net: nn.Sequential, x: torch.Tensor) -> np.ndarray:
    return torch.autograd.functional.jacobian(net.double(), x).reshape(3, -1).numpy()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_loader_gives_the_same_bound(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    options, flags = VARIANTS[name]
    net = module(options)
    networks = [
        read_module(net, SHAPE),
        read_onnx(exported(net, SHAPE, tmp_path / "exported.onnx")).network,
        read_onnx(by_hand(net, SHAPE, tmp_path / "by_hand.onnx")).network,
        kernels(net, options),
    ]
    values = {min(found.bound for found in RICCATI.propose(Task(network))) for network in networks}
    np.savez("net.npz", **{key: value.numpy() for key, value in net.state_dict().items()})
    files = [["net.npz", "--image-size", "5,6", *flags], ["exported.onnx"], ["by_hand.onnx"]]
    for arguments in files if name == "wide" else files[:1]:
        code, document = answer(invoke, "bound", *arguments, "--method", "riccati")
        assert code == 0
        values.add(document["bound"])
    assert len(values) == 1
    x = torch.randn(1, *SHAPE, dtype=torch.float64)
    J = jacobian_of_torch(net, x)
    np.testing.assert_allclose(jacobian(networks[1], x.numpy().reshape(-1)), J, atol=1e-12)
    assert np.linalg.norm(J, 2) <= values.pop()


@pytest.mark.parametrize("pool", [2, 3])
def test_graphs_with_maxima_agree_with_torch(tmp_path, pool):
    net = module({"padding": 1}, pool=pool)
    networks = [
        read_module(net, SHAPE),
        read_onnx(exported(net, SHAPE, tmp_path / "exported.onnx")).network,
        read_onnx(by_hand(net, SHAPE, tmp_path / "by_hand.onnx")).network,
    ]
    assert len({bound(network, "product").value for network in networks}) == 1
    x = torch.randn(1, *SHAPE, dtype=torch.float64)
    J = jacobian_of_torch(net, x)
    for network in networks:
        np.testing.assert_allclose(jacobian(network, x.numpy().reshape(-1)), J, atol=1e-12)


def test_kernels_need_the_image_size_and_others_refuse_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = module({"padding": 1})
    np.savez("net.npz", **{key: value.numpy() for key, value in net.state_dict().items()})
    np.savez("dense.npz", w=np.eye(3))
    by_hand(net, SHAPE, tmp_path / "net.onnx")
    refused = {
        ("net.npz",): "--image-size",
        ("net.npz", "--image-size", "5,5"): "60",
        ("net.npz", "--image-size", "0,6"): "image",
        ("net.npz", "--image-size", "six"): "--image-size",
        ("net.npz", "--image-size", "5,6,8"): "image",
        ("net.npz", "--image-size", "5,6", "--stride", "2"): "60",
        ("dense.npz", "--image-size", "5,6"): "image",
        ("net.onnx", "--image-size", "5,6"): "itself",
    }
    for arguments, reason in refused.items():
        code, out, err = invoke("bound", *arguments)
        assert (code, out) == (2, "") and reason in err.strip().splitlines()[-1], (arguments, err)
    # The size of one side stands for all; the bound grows with the image.
    square = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1))
    np.savez("square.npz", **{key: value.detach().numpy() for key, value in square.state_dict().items()})
    values = [
        answer(invoke, "bound", "square.npz", "--method", "product", "--image-size", size)[1]["bound"]
        for size in ("4", "4,4", "8,8")
    ]
    assert values[0] == values[1] <= values[2]


def test_graphs_of_images_of_open_size_are_refused(tmp_path):
    net = module({"padding": 1})
    path = by_hand(net, SHAPE, tmp_path / "net.onnx")
    model = onnx.load(path)
    for axis in model.graph.input[0].type.tensor_type.shape.dim:
        axis.dim_param, _ = "n", axis.ClearField("dim_value")
    onnx.save(model, path)
    with pytest.raises(InvalidWeight, match="open size"):
        read_onnx(path)
    assert len(read(path)) == 3  # layer by layer it is understood
