"""One list of laws for layers: bound, dtype, cache, function transforms, compilation, export, ONNX, the network, rounding."""

import copy
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from sdplip.bounds import bound
from sdplip.errors import RefusedModule
from sdplip.network.read.torch import read_module
from sdplip.nn import (
    ActNorm,
    BatchLipNorm,
    BetaAbs,
    BiLipschitz,
    BoundedScale,
    BROConv2d,
    CenterNorm,
    ChannelScale,
    CompactSandwichConv2d,
    DeepResidualLinear,
    EquilibriumLinear,
    GlobalL2Pool,
    LipKernel,
    LipKernelConv1d,
    LipKernelConv2d,
    LipKernelLinear,
    LipNeXtBlock,
    LipShiFTBlock,
    PositionalBias,
    Recurrent,
    ResidualConv2d,
    SandwichConv2d,
    Shift2d,
    UnitSphere,
    export_plain,
    lipschitz,
    orthogonal,
    save_onnx,
)
from sdplip.nn.products import by_products
from sdplip.robustness.arithmetic import plain_arithmetic
from sdplip.robustness.forward_error import Affine, forward_error

torch.set_num_threads(1)

IMAGE = (4, 4, 4)


def conv(out: int, taps, stride=1, padding: int | str = 1, mode="zeros", groups=1, dilation=1) -> nn.Module:
    layer = nn.Conv2d(4, out, taps, stride, padding, dilation, groups, padding_mode=mode)
    return orthogonal(layer)


def measured(layer: BatchLipNorm) -> BatchLipNorm:
    """With the statistics of a batch, and a momentum that keeps them."""
    layer.momentum = 1.0
    layer(0.2 * torch.randn(6, len(layer.mean)) + 1)
    layer.momentum = 0.0
    return layer


LAYERS = {
    "aoc": lambda: (conv(4, 3), IMAGE, 1.0),
    "aoc circular, groups": lambda: (conv(8, (3, 2), padding="same", mode="circular", groups=2), IMAGE, 1.0),
    "aoc stride": lambda: (conv(10, 4, 2), IMAGE, 1.0),
    "aoc dilation": lambda: (conv(6, 3, 2, 3, dilation=3), IMAGE, 1.0),
    "aoc transposed": lambda: (orthogonal(nn.ConvTranspose2d(4, 3, 3, 2, 1)), IMAGE, 1.0),
    "aoc 1-D": lambda: (orthogonal(nn.Conv1d(3, 5, 5, 2, 2)), (3, 9), 1.0),
    "cholesky": lambda: (orthogonal(nn.Linear(5, 9), "cholesky"), (5,), 1.0),
    "bro": lambda: (orthogonal(nn.Linear(7, 6), "bro"), (7,), 1.0),
    "bro conv": lambda: (BROConv2d(4, 6, 3, (4, 4)), IMAGE, 1.0),
    "manifold": lambda: (orthogonal(nn.Linear(7, 5), "manifold"), (7,), None),
    "manifold, patches": lambda: (orthogonal(nn.Conv2d(4, 6, 2, 2, groups=2), "manifold"), IMAGE, None),
    "manifold, transposed": lambda: (orthogonal(nn.ConvTranspose2d(4, 3, 2, 2), "manifold"), IMAGE, None),
    "shift": lambda: (Shift2d(9, 2), (9, 3, 5), 1.0),
    "shift with zeros": lambda: (Shift2d(9, 2, "zeros"), (9, 3, 5), 1.0),
    "beta-Abs": lambda: (BetaAbs(0.3), (7, 2, 2), 1.0),
    "position": lambda: (PositionalBias((3, 5)), (4, 3, 5), 1.0),
    "lengths": lambda: (GlobalL2Pool(), (4, 3, 5), 1.0),
    "centre": lambda: (CenterNorm(5), (5, 2, 2), None),
    "unit sphere": lambda: (UnitSphere(0.5), (5, 2), 2.0),
    "batch norm of one scale": lambda: (measured(BatchLipNorm(5, 3.0, momentum=0.0)), (5, 2, 2), 3.0),
    "bounded channel scale": lambda: (ActNorm(5, 3.0), (5, 2, 2), 3.0),
    "bounded scale": lambda: (BoundedScale(3.0, -1.0), (5,), 3.0),
    "recurrent": lambda: (Recurrent(3, 4), (5, 3), 1.0),
    "recurrent, contracting": lambda: (Recurrent(2, 4, all_states=True, decay=0.75), (5, 2), (16 / 7) ** 0.5),
    "recurrent, all states": lambda: (Recurrent(3, 5, nn.ReLU(), all_states=True), (4, 3), 2.0),
    "channel scale": lambda: (ChannelScale(5), (5, 2, 2), None),
    "lipnext": lambda: (LipNeXtBlock(8, (4, 4), 1), (8, 4, 4), 1.0),
    "lipnext, manifold": lambda: (LipNeXtBlock(8, (4, 4), 1, method="manifold"), (8, 4, 4), None),
    "deep residual": lambda: (DeepResidualLinear(6, [8, 5, 7]), (6,), 1.0),
    "deep residual, narrow": lambda: (
        DeepResidualLinear(3, [4], nn.LeakyReLU(0.1), h=-0.7, L=2.0),
        (3,),
        2.0,
    ),
    "equilibrium": lambda: (EquilibriumLinear(6, 9, 4, tolerance=1e12), (6,), 1.0),
    "equilibrium, tanh": lambda: (EquilibriumLinear(5, 7, 6, nn.Tanh(), L=2.0, tolerance=1e12), (5,), 2.0),
    "bi-Lipschitz": lambda: (BiLipschitz(DeepResidualLinear(5, [7, 4]), 0.25, 4.0), (5,), 4.0),
    "bi-Lipschitz conv": lambda: (BiLipschitz(ResidualConv2d(2, 5), 0.1, 2.0), (2, 4, 3), 2.0),
    "sandwich conv": lambda: (SandwichConv2d(4, 3, 3, (4, 4)), IMAGE, 1.0),
    "sandwich conv, odd": lambda: (SandwichConv2d(2, 5, (3, 2), (5, 3), nn.LeakyReLU(0.25)), (2, 5, 3), 1.0),
    "sandwich conv, stride": lambda: (SandwichConv2d(2, 3, 2, (6, 4), stride=2), (2, 6, 4), 1.0),
    "compact sandwich": lambda: (CompactSandwichConv2d(4, 3, 3), IMAGE, 1.0),
    "compact sandwich, stride": lambda: (
        CompactSandwichConv2d(2, 5, (3, 1), stride=2, bias=False),
        (2, 6, 4),
        1.0,
    ),
    "lipkernel": lambda: (
        LipKernel(
            [LipKernelConv2d(2, 3, 4, 2, 1), nn.Flatten(), LipKernelLinear(6, 4), LipKernelLinear(4, 3)],
            (2, 4, 2),
        ),
        (2, 4, 2),
        1.0,
    ),
    "lipkernel 1-D": lambda: (
        LipKernel([LipKernelConv1d(2, 3, 3, 1, 1), nn.Flatten(), LipKernelLinear(12, 3)], (2, 4), bound=2.0),
        (2, 4),
        2.0,
    ),
    "lipshift": lambda: (LipShiFTBlock(6, 1), (6, 4, 4), None),
}
"""Layer, shape of a sample, and the constant that it has in exact arithmetic, None if that depends on its weights."""

every_layer = pytest.mark.parametrize("name", LAYERS)


def make(name: str, seed: int = 0):
    torch.manual_seed(seed)
    return LAYERS[name]()


def fill(layer: nn.Module, how: str) -> nn.Module:
    """Adversarial free tensors."""
    with torch.no_grad():
        for p in layer.parameters():
            new = torch.randn(p.shape, dtype=torch.float64)
            if how == "equal":
                new = torch.ones_like(new)
            elif how == "rank one" and new.ndim > 1:
                new = new[..., :1] * new[..., :1, :]
            p.copy_({"huge": 1e4 if p.ndim > 1 else 3.0, "zero": 0.0}.get(how, 1.0) * new)
    return layer


def jacobian(layer: nn.Module, x: torch.Tensor) -> np.ndarray:
    J = torch.autograd.functional.jacobian(lambda x: layer(x[None])[0].flatten(), x)
    return J.reshape(len(J), -1).detach().double().numpy()


@every_layer
@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        ("random", torch.float64),
        ("rank one", torch.float32),
        ("huge", torch.float64),
        ("zero", torch.float32),
    ],
)
def test_no_jacobian_exceeds_the_bound(name, how, dtype):
    layer, shape, constant = make(name)
    fill(layer.to(dtype), how).eval()
    slack = 1e-11 if dtype == torch.float64 else 1e-5
    proven = lipschitz(layer, input_shape=shape).value
    assert constant is None or proven <= constant * (1 + slack)
    for scale in (0.1, 3.0):
        J = jacobian(layer, scale * torch.randn(*shape, dtype=dtype))
        assert np.linalg.norm(J, 2) <= proven * (1 + slack / 10)
    if how == "random" and "recurrent" not in name:
        assert proven <= lipschitz(layer).value * (1 + 1e-9)


@every_layer
def test_training_leaves_the_bound(name):
    """Steps of ascent on the length of outputs, by an optimiser that sees the free tensors."""
    layer, shape, constant = make(name)
    optimiser = torch.optim.SGD([*layer.parameters(), torch.zeros(1, requires_grad=True)], lr=1.0)
    x = torch.randn(4, *shape, requires_grad=True)
    for _ in range(3):
        optimiser.zero_grad()
        (-layer(x).square().mean()).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())
        optimiser.step()
    proven = lipschitz(layer.eval(), input_shape=shape).value
    assert constant is None or proven <= constant * (1 + 1e-5)
    for _ in range(3):
        assert np.linalg.norm(jacobian(layer, torch.randn(*shape)), 2) <= proven * (1 + 1e-6)


@every_layer
def test_dtypes_caches_and_transforms(name):
    layer, shape, _ = make(name)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        y = layer.to(dtype)(torch.randn(2, *shape, dtype=dtype, requires_grad=True))
        y.sum().backward()
        assert y.dtype == dtype and all(torch.isfinite(p.grad).all() for p in layer.parameters())
        layer.zero_grad()
    x = torch.randn(2, *shape, dtype=torch.double, requires_grad=True)
    expected = layer(x)
    expected.square().sum().backward()
    gradients = [p.grad.clone() for p in layer.parameters()]
    layer.eval()
    for _ in range(2):
        layer.zero_grad()
        layer(x).square().sum().backward()
        torch.testing.assert_close([p.grad for p in layer.parameters()], gradients)
    torch.testing.assert_close(functional_call(layer, dict(layer.named_parameters()), (x,)), expected)
    torch.testing.assert_close(vmap(lambda x: layer(x[None])[0])(x), expected)
    assert vmap(jacrev(lambda x: layer(x[None])[0]))(x).isfinite().all()
    other, _, _ = make(name, 1)
    other.double().eval()(x)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x), expected)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.randn_like(p))
        torch.testing.assert_close(layer(x), copy.deepcopy(layer).train()(x))
        assert not torch.allclose(layer(x), expected) or not [*layer.parameters()]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.isfinite(layer.float()(x.float())).all()


@pytest.mark.parametrize(
    "name", ["aoc stride", "bro conv", "bi-Lipschitz", "sandwich conv, stride", "compact sandwich"]
)
@pytest.mark.skipif(sys.platform == "win32", reason="needs a C++ compiler")
def test_compiled_layers_agree(name):
    layer, shape, _ = make(name)
    x = torch.randn(2, *shape)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


@every_layer
@torch.no_grad()
def test_exports_rounding_and_the_network(name, tmp_path):
    layer, shape, constant = make(name)
    first = nn.Identity() if [*layer.parameters()] else ChannelScale(shape[0], 0.7)  # a dtype to compute in
    model, x = nn.Sequential(first, fill(layer, "random"), nn.Identity()).eval(), torch.randn(3, *shape)
    if "equilibrium" in name:
        with pytest.raises(RefusedModule, match="no plain form"):
            export_plain(model, input_shape=shape)
        return  # the rest stands in `test_nn_equilibrium.py`
    export = export_plain(model, input_shape=shape)
    torch.testing.assert_close(export.model(x), model(x), atol=1e-5, rtol=1e-5)
    assert constant is None or export.bound.value <= constant * (1 + 1e-4)
    plain, network = copy.deepcopy(export.model).double(), read_module(export.model, shape)
    J = jacobian(plain, x[0].double())
    rounded = (
        "bounded scale",
        "bounded channel scale",
        "centre",
        "lipshift",
        "deep residual, narrow",
    )  # n / (n - 1) times a weight; h = -0.7
    slack = 1e-6 if name in rounded else 1e-12
    assert np.linalg.norm(J, 2) <= bound(network, "product").bound * (1 + slack)
    values = torch.from_numpy(network(x[0].double().flatten().numpy()))
    torch.testing.assert_close(values, plain(x[:1].double())[0].flatten(), atol=10 * slack, rtol=10 * slack)
    with plain_arithmetic():
        fourier = "bro conv" in name or name.startswith("sandwich conv")
        runs = by_products(copy.deepcopy(model)) if fourier else export.model
        exact = copy.deepcopy(runs).double()(x.double())
        proven = lipschitz(runs, input_shape=shape) if fourier else export.bound
        _, error, _ = forward_error(runs, proven).flow(x, Affine(np.zeros(3), 1.0))
        off = (runs(x).double() - exact).flatten(1).norm(dim=1).numpy()
    assert (off <= error.constant).all() and 0 <= error.constant.max() < 1e-2
    onnxruntime = pytest.importorskip("onnxruntime")
    save_onnx(model, tmp_path / "model.onnx", input_shape=shape)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"input": x.numpy()})
    assert abs(y - model(x).numpy()).max() < 1e-5 * math.sqrt(x[0].numel())
