"""One convolutional network from torch, from ONNX (exported, and node by node) and from a file of kernels: one bound."""

import numpy as np
import onnx
import pytest
import torch
from sdplip.networks import Network, from_kernels
from sdplip.networks.onnx import from_onnx
from sdplip.networks.torch import from_module
from torch import nn

from sdplip.bounds import bound, jacobian
from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.weights import Weight, read
from tests.commands import answer, invoke
from tests.graphs import by_hand, exported

SHAPE = (2, 6, 7)
VARIANTS = {
    "same": ({"padding": 1}, []),
    "valid": ({"padding": 0}, ["--padding", "0"]),
    "strided": ({"padding": 1, "stride": 2}, ["--padding", "1", "--stride", "2"]),
    "wide": ({"padding": 2, "stride": (1, 2)}, ["--padding", "2", "--stride", "1,2"]),
    "dilated": ({"padding": 2, "dilation": 2}, ["--padding", "2", "--dilation", "2"]),
    "grouped": ({"padding": 1, "groups": 2}, ["--groups", "2"]),
}


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
    return from_kernels(weights, SHAPE[1:])


@pytest.mark.parametrize("name", VARIANTS)
def test_every_loader_gives_the_same_bound(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    options, flags = VARIANTS[name]
    net = module(options)
    networks = [
        from_module(net, SHAPE),
        from_onnx(exported(net, SHAPE, tmp_path / "exported.onnx")),
        from_onnx(by_hand(net, SHAPE, tmp_path / "by_hand.onnx")),
        kernels(net, options),
    ]
    values = {bound(network, "riccati").value for network in networks}
    np.savez("net.npz", **{key: value.numpy() for key, value in net.state_dict().items()})
    for arguments in (["net.npz", "--image-size", "6,7", *flags], ["exported.onnx"], ["by_hand.onnx"]):
        code, document = answer(invoke, "bound", *arguments, "--method", "riccati")
        assert code == 0
        values.add(document["bound"])
    assert len(values) == 1
    x = torch.randn(1, *SHAPE, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(net.double(), x).reshape(3, -1).numpy()
    np.testing.assert_allclose(jacobian(networks[1], x.numpy().reshape(-1)), J, atol=1e-12)
    assert np.linalg.norm(J, 2) <= values.pop()


@pytest.mark.parametrize("pool", [2, 3])
def test_graphs_with_maxima_agree_with_torch(tmp_path, pool):
    net = module({"padding": 1}, pool=pool)
    networks = [
        from_module(net, SHAPE),
        from_onnx(exported(net, SHAPE, tmp_path / "exported.onnx")),
        from_onnx(by_hand(net, SHAPE, tmp_path / "by_hand.onnx")),
    ]
    assert len({bound(network, "product").value for network in networks}) == 1
    x = torch.randn(1, *SHAPE, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(net.double(), x).reshape(3, -1).numpy()
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
        ("net.npz", "--image-size", "6,6"): "takes 84 numbers",
        ("net.npz", "--image-size", "0,7"): "image_size",
        ("net.npz", "--image-size", "six"): "--image-size",
        ("net.npz", "--image-size", "6,7,8"): "image",
        ("net.npz", "--image-size", "6,7", "--stride", "2"): "takes 84 numbers",
        ("dense.npz", "--image-size", "6,7"): "no layer is a convolution",
        ("net.onnx", "--image-size", "6,7"): "says it itself",
    }
    for arguments, reason in refused.items():
        code, out, err = invoke("bound", *arguments)
        assert (code, out) == (2, "") and reason in err.strip().splitlines()[-1], arguments
    # The size of one side stands for all; the bound grows with the image.
    square = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1))
    np.savez("square.npz", **{key: value.detach().numpy() for key, value in square.state_dict().items()})
    values = [
        answer(invoke, "bound", "square.npz", "--method", "product", "--image-size", size)[1]["bound"]
        for size in ("4", "4,4", "8,8")
    ]
    assert values[0] == values[1] <= values[2]


def test_graphs_of_unknown_size_are_refused(tmp_path):
    net = module({"padding": 1})
    path = by_hand(net, SHAPE, tmp_path / "net.onnx")
    model = onnx.load(path)
    for axis in model.graph.input[0].type.tensor_type.shape.dim:
        axis.dim_param, _ = "n", axis.ClearField("dim_value")
    onnx.save(model, path)
    with pytest.raises(InvalidWeight, match="shape"):
        from_onnx(path)
    assert len(read(path)) == 3  # layer by layer it is understood
