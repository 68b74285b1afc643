"""Laws of the strided residual layer: its bound at random and worst points, shapes, rounding, export, refusals."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.nn import (
    StridedResidualConv2d,
    UnsupportedActivation,
    export_plain,
    initialise,
    lipschitz,
    save_onnx,
)
from sdplip.robustness.arithmetic import plain_arithmetic
from sdplip.robustness.forward_error import Affine, forward_error

torch.set_num_threads(1)

IMAGE = (3, 4, 6)
LAYERS = {
    "fewer channels": lambda **k: StridedResidualConv2d(3, 6, 5, **k),
    "all channels": lambda **k: StridedResidualConv2d(3, 12, 9, (2, 3), "spectral", **k),
    "more channels": lambda **k: StridedResidualConv2d(3, 14, 30, 1, "aol", nn.Tanh(), **k),
    "stride 1": lambda **k: StridedResidualConv2d(3, 2, 4, stride=1, **k),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def wild(layer):
    """Raw weights that are not those of the initialisation."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (1.0 if "log_q" in name else 3.0))
    return layer


def jacobian(layer, x):
    J = torch.autograd.functional.jacobian(lambda x: layer(x[None])[0].flatten(), x)
    return J.reshape(len(J), -1).detach().double().numpy()


@every_layer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_jacobian_exceeds_the_bound(name, dtype):
    torch.manual_seed(0)
    layer = LAYERS[name]().to(dtype)
    for change in (lambda layer: layer, wild):
        change(layer).eval()
        bound = lipschitz(layer, input_shape=IMAGE).value
        assert bound <= 1 + 1e-5 and bound <= lipschitz(layer).value * (1 + 1e-9)
        for scale in (1.0, 30.0):
            J = jacobian(layer, scale * torch.randn(*IMAGE, dtype=dtype))
            assert np.linalg.norm(J, 2) <= bound * (1 + 1e-6)
    with (
        torch.no_grad()
    ):  # the worst case of a wrong T: every unit active, under weights whose products all add up
        for parameter in layer.parameters():
            nn.init.ones_(parameter)
        layer.block.bias += 1e3
    bound = lipschitz(layer.eval(), input_shape=IMAGE).value
    J = jacobian(layer, torch.rand(*IMAGE, dtype=dtype))
    assert np.linalg.norm(J, 2) <= bound * (1 + 1e-5) and bound <= 1 + 1e-5


@every_layer
def test_shapes_gradients_and_copies(name):
    torch.manual_seed(0)
    layer, x = LAYERS[name](), torch.randn(2, *IMAGE)
    y = layer(x)
    stride = layer.unshuffle.downscale_factor
    assert y.shape == (2, y.shape[1], IMAGE[1] // stride, IMAGE[2] // stride)
    y.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in layer.parameters())
    other = LAYERS[name]()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x), y)
    torch.testing.assert_close(copy.deepcopy(layer).eval()(x), y)
    assert lipschitz(initialise(layer).eval()).value <= 1 + 1e-5


def test_it_starts_close_to_a_co_isometry():
    torch.manual_seed(0)
    layer = StridedResidualConv2d(3, 6, 5).eval()
    P = layer.project.weight.detach().flatten(1).double()
    torch.testing.assert_close(
        P @ P.mT, torch.eye(6).double(), atol=0.03, rtol=0
    )  # 6^(1 / 2^8) from Gram iteration


def test_one_layer_by_hand():
    """One pixel, one channel, one hidden unit on four pixels: y = P (u - 2 w max(w'u, 0) / w'w)."""
    layer = StridedResidualConv2d(1, 4, 1, 1, bias=False).double()
    w = torch.tensor([1.0, 2.0, -1.0, 3.0]).double()
    with torch.no_grad():
        layer.block.weight.copy_(w.reshape(1, 4, 1, 1))
    u = torch.tensor([2.0, 0.0, 1.0, 4.0]).double()  # w'u = 13, w'w = 15
    torch.testing.assert_close(layer(u.reshape(1, 1, 2, 2)).flatten(), u - 2 * 13 / 15 * w)


@every_layer
@torch.no_grad()
def test_rounding_and_export(name, tmp_path):
    torch.manual_seed(0)
    model, x = nn.Sequential(LAYERS[name](), nn.Identity()).eval(), torch.randn(3, *IMAGE)
    export = export_plain(model, input_shape=IMAGE)
    torch.testing.assert_close(export.model(x), model(x), atol=1e-5, rtol=1e-5)
    assert export.bound.value <= 1 + 1e-4
    if name != "more channels":  # tanh has no proven accuracy
        plain = export.model
        with plain_arithmetic():
            _, error, _ = forward_error(plain, export.bound).flow(x, Affine(np.zeros(3), 1.0))
            off = (
                (plain(x).double() - copy.deepcopy(plain).double()(x.double())).flatten(1).norm(dim=1).numpy()
            )
        assert (off <= error.constant).all() and error.constant.max() < 1e-2
        forward_error(model, lipschitz(model, input_shape=IMAGE))
    onnxruntime = pytest.importorskip("onnxruntime")
    save_onnx(model, tmp_path / "model.onnx", input_shape=IMAGE)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"input": x.numpy()})
    assert abs(y - model(x).numpy()).max() < 1e-5


def test_what_is_wrong_is_refused():
    with pytest.raises(InvalidWeight, match="at least 1"):
        StridedResidualConv2d(3, 0, 4)
    with pytest.raises(UnsupportedActivation):
        StridedResidualConv2d(3, 6, 4, activation=nn.GELU())
    with pytest.raises(RuntimeError, match="divisible"):
        StridedResidualConv2d(3, 6, 4)(torch.zeros(1, 3, 5, 4))
