"""Every layer on a GPU: it moves with its caches, keeps dtypes, computes what it does on the CPU, and is proven from there.

The CPU takes part as a device of its own, so that the tests themselves run everywhere.
"""

import copy
import os
import sys

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdplip.geometry import Geometry
from sdplip.nn import (
    SLL,
    Abs,
    ActNorm,
    BatchLipNorm,
    BiLipschitz,
    Blocked,
    CayleyConv2d,
    Center,
    CompactSandwichConv2d,
    Concatenate,
    EquilibriumLinear,
    FirstChannels,
    GroupSort,
    Householder,
    L2Pool2d,
    LastLayerNormalised,
    LipKernel,
    LipKernelConv2d,
    LipKernelLinear,
    MaxMin,
    MultiStep,
    NActivation,
    Normalise,
    PadChannels,
    Residual,
    ResidualConv1d,
    ResidualConv2d,
    ResidualConv3d,
    ResidualLinear,
    Sandwich,
    SandwichConv2d,
    Scale,
    ScaledAvgPool2d,
    Spectral,
    StridedResidualConv2d,
    Sum,
    UnitSphere,
    estimate_lipschitz,
    export_plain,
    lipschitz,
    orthogonal,
    rescaled,
)
from sdplip.nn.products import by_products

torch.set_num_threads(1)

PIXELS = (4, 6, 6)
LAYERS = {
    "linear aol": (lambda: rescaled(nn.Linear(6, 9), "aol"), (6,)),
    "linear sll, wide": (lambda: rescaled(nn.Linear(300, 9), "sll"), (300,)),
    "linear sll, products in bfloat16": (lambda: rescaled(nn.Linear(300, 9), SLL(product_dtype=torch.bfloat16)), (300,)),
    "linear spectral": (lambda: rescaled(nn.Linear(6, 9), "spectral"), (6,)),
    "linear multi-step": (lambda: rescaled(nn.Linear(6, 9), MultiStep(3)), (6,)),
    "conv aol": (lambda: rescaled(nn.Conv2d(4, 9, 3, padding=1), "aol"), PIXELS),
    "conv spectral": (lambda: rescaled(nn.Conv2d(4, 8, 3, padding=1, groups=2), "spectral"), PIXELS),
    "conv spectral, one size": (lambda: rescaled(nn.Conv2d(4, 9, 3, 2), Spectral(iterations=4), image_size=(6, 6)), PIXELS),
    "linear by blocks": (lambda: Blocked(nn.Linear(6, 9), 2), (6,)),
    "conv by blocks": (lambda: Blocked(nn.Conv2d(4, 9, 3, padding=1), 9), PIXELS),
    "transposed": (lambda: rescaled(nn.ConvTranspose2d(4, 6, 3, 2), "sll"), PIXELS),
    "residual linear": (lambda: ResidualLinear(6, 9), (6,)),
    "residual conv 1-D": (lambda: ResidualConv1d(4, 9, 3, "spectral"), (4, 7)),
    "residual conv 2-D": (lambda: ResidualConv2d(4, 9, 3, geometry=Geometry(2)), PIXELS),
    "residual conv 3-D": (lambda: ResidualConv3d(2, 5, 2, "aol"), (2, 3, 4, 3)),
    "strided residual": (lambda: StridedResidualConv2d(4, 6, 5), PIXELS),
    "orthogonal": (lambda: orthogonal(nn.Linear(6, 9)), (6,)),
    "orthogonal manifold": (lambda: orthogonal(nn.Linear(6, 9), "manifold"), (6,)),
    "orthogonal cayley": (lambda: orthogonal(nn.Linear(6, 19), "cayley"), (6,)),
    "cayley conv": (lambda: CayleyConv2d(4, 6, 3, PIXELS[1:]), PIXELS),
    "sandwich": (lambda: Sandwich(6, 9), (6,)),
    "bi-Lipschitz": (lambda: BiLipschitz(ResidualConv2d(4, 6), 0.2, 3.0), PIXELS),
    "sandwich conv": (lambda: SandwichConv2d(4, 5, 3, PIXELS[1:], stride=2), PIXELS),
    "compact sandwich": (lambda: CompactSandwichConv2d(4, 5, 3), PIXELS),
    "lipkernel": (
        lambda: LipKernel([LipKernelConv2d(4, 3, 2, 2), nn.Flatten(), LipKernelLinear(27, 3)], PIXELS), PIXELS
    ),
    "equilibrium": (lambda: EquilibriumLinear(6, 9, 4), (6,)),
    "head": (lambda: LastLayerNormalised(6, 5), (6,)),
    "activations": (lambda: nn.Sequential(MaxMin(), GroupSort(4), Abs(), Householder(4), NActivation(4)), PIXELS),
    "shapes": (
        lambda: nn.Sequential(
            Normalise([0.5] * 4, [0.2] * 4), PadChannels(2), ScaledAvgPool2d(2), L2Pool2d(3), Center((1,)),
            FirstChannels(4), Scale(0.5), UnitSphere(), BatchLipNorm(5, 2.0, momentum=0.0), ActNorm(5).initialise(torch.randn(4, 5))
        ),
        PIXELS,
    ),
    "branches": (
        lambda: nn.Sequential(
            Residual(rescaled(nn.Conv2d(4, 4, 3, padding=1), "aol")),
            Sum([nn.ReLU(), nn.Identity()]),
            Concatenate([nn.Identity(), Abs()]),
        ),
        PIXELS,
    ),
}  # fmt: skip
"""Every layer with the shape of one sample."""

every_layer = pytest.mark.parametrize("name", LAYERS)
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))
SIMULATED = ["sim"] if os.environ.get("SDPLIP_SIMULATED") else []  # see tests/simulated
every_device = pytest.mark.parametrize("device", ["cpu", GPU, *SIMULATED])


def pair(name, device):
    """A layer on the CPU, its copy on the device, and a batch."""
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make()
    return layer, copy.deepcopy(layer).to(device), torch.randn(3, *shape)


@every_layer
@every_device
def test_layers_keep_device_and_dtype(name, device):
    _, moved, x = pair(name, device)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        if dtype == torch.bfloat16 and name.startswith("orthogonal"):
            continue  # torch's own matrix exponential and solver do not know it
        y = moved.to(dtype)(x.to(device, dtype))
        assert y.device.type == device and y.dtype == dtype
        if y.requires_grad:
            y.float().sum().backward()


@every_layer
@every_device
def test_a_device_computes_the_same_and_its_weights_are_proven(name, device):
    layer, moved, x = pair(name, device)
    layer, moved = layer.double(), moved.double()
    x = x.double()
    for mode in (True, False):
        layer.train(mode), moved.train(mode)
        torch.testing.assert_close(moved(x.to(device)).cpu(), layer(x), atol=1e-9, rtol=1e-9)
        for one, where in ((layer, "cpu"), (moved, device)):
            one.zero_grad()
            one(x.to(where).requires_grad_()).square().sum().backward()
        for a, b in zip(layer.parameters(), moved.parameters(), strict=True):
            torch.testing.assert_close(b.grad.cpu(), a.grad, atol=1e-8, rtol=1e-8)
    bound = lipschitz(moved, input_shape=tuple(x.shape[1:]))
    assert bound.value == pytest.approx(lipschitz(layer, input_shape=tuple(x.shape[1:])).value, rel=1e-9)
    assert estimate_lipschitz(moved, x.to(device)) <= bound.value * (1 + 1e-9)
    torch.testing.assert_close(moved.cpu()(x), layer(x), atol=1e-9, rtol=1e-9)  # no cache stays behind
    moved.to(device).load_state_dict(layer.state_dict())
    if name == "equilibrium":
        return  # has no plain form
    export = export_plain(moved)
    torch.testing.assert_close(export.model(x.to(device)).cpu(), layer(x), atol=1e-9, rtol=1e-9)
    assert all(p.device.type == device for p in export.model.parameters())


@every_layer
def test_transforms_copies_and_files(name):
    layer, moved, x = pair(name, "cpu")
    layer, x = layer.double(), x.double()
    for mode in (True, False):
        layer.train(mode)
        y = layer(x)
        torch.testing.assert_close(vmap(lambda x: layer(x[None])[0])(x), y)
        J = jacrev(lambda x: layer(x[None])[0])(x[0])
        torch.testing.assert_close(J, torch.autograd.functional.jacobian(lambda x: layer(x[None])[0], x[0]))
        torch.testing.assert_close(copy.deepcopy(layer)(x), y)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += 0.1
    other = moved.double().eval()
    other(x)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x), layer(x))


COMPILED = (
    "residual conv 3-D",
    "cayley conv",
    "sandwich",
    "orthogonal",
    "orthogonal cayley",
    "head",
    "activations",
    "shapes",
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a C++ compiler")
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_layers_agree(name):
    layer, _, x = pair(name, "cpu")
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for mode in (True, False):
        layer.train(mode)
        torch.testing.assert_close(compiled(x), layer(x))


class _Sizes(TorchDispatchMode):
    """Notes the sizes of what every operation returns."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.sizes += [t.numel() for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        return result


def test_square_orthogonal_layers_compute_with_nothing_empty():
    """Compilers refuse the gradient of an empty complex tensor, in every network of Cayley convolutions that keeps its channels."""
    layer = CayleyConv2d(3, 3, 3, (4, 4))
    with _Sizes() as seen:
        layer(torch.randn(2, 3, 4, 4)).sum().backward()
    assert seen.sizes and min(seen.sizes) > 0


@every_device
def test_autocast_never_lowers_t(device):
    torch.manual_seed(0)
    for scaling in ("spectral", "aol", "sll", "multi_step"):
        for layer, shape in (
            (ResidualLinear(6, 9, scaling), (6,)),
            (ResidualConv2d(4, 9, 3, scaling), PIXELS),
        ):
            layer = layer.to(device)
            before = layer.t
            with torch.autocast(device, dtype=torch.bfloat16):
                assert torch.equal(layer.t, before)
                layer(torch.randn(2, *shape, device=device)).sum().backward()
            assert layer.weight.grad.dtype == torch.float32


@every_device
def test_products_of_an_orthogonal_convolution(device):
    layer, moved, x = pair("cayley conv", device)
    products = by_products(moved.eval())
    torch.testing.assert_close(products(x.to(device)).cpu(), layer(x), atol=1e-5, rtol=1e-5)
    assert lipschitz(products).value <= 1 + 1e-5
