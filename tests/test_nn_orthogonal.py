"""Laws of orthogonal layers, of the sandwich layer, and of the tight initialisation."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from sdplip.errors import InvalidWeight, RefusedModule, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.nn import (
    CayleyConv2d,
    ResidualConv2d,
    ResidualLinear,
    Sandwich,
    UnsupportedActivation,
    fourier,
    initialise,
    lipschitz,
    orthogonal,
    rescaled,
)
from sdplip.nn.cayley import cayley
from sdplip.nn.products import by_products
from sdplip.proposals import certify

torch.set_num_threads(1)

IMAGE = (4, 5)
METHODS = ("exp", "cayley", "householder")
SIZES = [(3, 8), (5, 5), (8, 3), (1, 4)]
every_size = pytest.mark.parametrize("sizes", SIZES)


def randomise(layer, scale=0.7):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * scale)
    return layer


def matrix(layer, shape, dtype):
    """Exact matrix of an affine layer, from its values on the unit images."""
    units = torch.eye(math.prod(shape), dtype=dtype).reshape(-1, *shape)
    values = layer(units) - layer(torch.zeros(1, *shape, dtype=dtype))
    return values.flatten(1).detach().double().numpy().T


def assert_isometry(C, tolerance):
    singular = np.linalg.svd(C, compute_uv=False)
    np.testing.assert_allclose(singular, 1, atol=tolerance)


@every_size
@pytest.mark.parametrize("method", METHODS)
def test_orthogonal_linear(method, sizes):
    torch.manual_seed(0)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        layer = orthogonal(nn.Linear(*sizes, dtype=dtype), method)
        optimiser = torch.optim.SGD(layer.parameters(), lr=3.0)
        for _ in range(3):
            optimiser.zero_grad()
            (layer(torch.randn(5, sizes[0], dtype=dtype)) - 2).square().mean().backward()
            optimiser.step()
        assert_isometry(matrix(layer, (sizes[0],), dtype), tolerance)


@every_size
@pytest.mark.parametrize("taps", [1, 2, 3, (4, 1)])
def test_cayley_convolutions_are_orthogonal(sizes, taps):
    torch.manual_seed(0)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-6)):
        for scale in (0.1, 1.0, 30.0):
            layer = randomise(CayleyConv2d(*sizes, taps, IMAGE, bias=False).to(dtype), scale)
            C = matrix(layer, (sizes[0], *IMAGE), dtype)
            assert_isometry(C, tolerance)
    shifted = torch.randn(1, sizes[0], *IMAGE, dtype=dtype)
    y = layer(shifted).roll((1, 2), (-2, -1))  # a convolution commutes with shifts
    torch.testing.assert_close(layer(shifted.roll((1, 2), (-2, -1))), y, atol=1e-4, rtol=1e-4)


@every_size
def test_cayley_convolutions_are_proven_after_rounding(sizes):
    """The kernel proves the complex matrix of every frequency as a real one of twice the size."""
    torch.manual_seed(0)
    layer = randomise(CayleyConv2d(*sizes, 3, IMAGE)).eval()
    symbol = layer.symbol().detach().numpy()
    exact = matrix(copy.deepcopy(layer).double(), (sizes[0], *IMAGE), torch.double)
    np.testing.assert_allclose(np.linalg.norm(exact, 2), 1, rtol=1e-12)
    for Q in symbol.reshape(-1, *symbol.shape[-2:]):
        W = np.block([[Q.real, -Q.imag], [Q.imag, Q.real]])
        certificate = certify(W, np.ones(W.shape[1]))
        assert 1 - 1e-5 <= certificate.c_lower <= certificate.c <= 1 + 1e-5


@every_size
def test_the_symbol_is_the_layer(sizes):
    torch.manual_seed(0)
    layer = randomise(CayleyConv2d(*sizes, 3, IMAGE).double())
    C = matrix(layer, (sizes[0], *IMAGE), torch.double)
    assert tuple(layer.symbol().shape) == (IMAGE[0], IMAGE[1] // 2 + 1, sizes[1], sizes[0])
    delta = torch.zeros(1, sizes[0], *IMAGE, dtype=torch.double)
    delta[0, 0, 0, 0] = 1
    response = layer(delta) - layer(0 * delta)
    torch.testing.assert_close(torch.fft.rfft2(response[0]).movedim(0, -1), layer.symbol()[..., 0])
    assert C.shape == (sizes[1] * 20, sizes[0] * 20)


@every_size
@pytest.mark.parametrize("image", [(4, 5), (6, 6), (1, 4), (5, 1)])
def test_products_of_matrices_compute_the_same(sizes, image):
    torch.manual_seed(0)
    layer = randomise(CayleyConv2d(*sizes, (1, min(image[1], 3)), image)).eval()
    model = by_products(nn.Sequential(copy.deepcopy(layer), nn.ReLU()))
    products, x = model[0], torch.randn(2, sizes[0], *image)
    torch.testing.assert_close(products(x), layer(x), atol=1e-5, rtol=1e-5)
    with pytest.raises(UnsupportedConvolution, match="orthogonal on images"):
        products(torch.zeros(1, sizes[0], 7, 7))
    for change in (1.0, 1.3):  # whatever their numbers are
        with torch.no_grad():
            products.waves[0] *= change
            products.matrices[-1] *= change**2
        largest = np.linalg.norm(
            matrix(copy.deepcopy(products).double(), (sizes[0], *image), torch.double), 2
        )
        assert largest <= lipschitz(products).value <= (1 + 1e-5) * change**4


def test_only_what_is_known_is_replaced_by_products():
    layer = CayleyConv2d(2, 2, 3, IMAGE).eval()
    twice = by_products(nn.Sequential(layer, nn.ReLU(), layer))
    assert [type(module).__name__ for module in twice] == [
        "CayleyConv2dProducts",
        "ReLU",
        "CayleyConv2dProducts",
    ]
    hooked = nn.Sequential(CayleyConv2d(2, 2, 3, IMAGE)).eval()
    hooked[0].register_forward_hook(lambda *_: None)
    with pytest.raises(RefusedModule, match="hook"):
        lipschitz(by_products(hooked))


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
def test_the_cayley_transform_has_orthonormal_columns(dtype):
    torch.manual_seed(0)
    for scale in (0.0, 1e-6, 1.0, 1e4):
        Q = cayley(scale * torch.randn(2, 7, 4, dtype=dtype))
        torch.testing.assert_close(Q.mH @ Q, torch.eye(4, dtype=dtype).expand(2, 4, 4), atol=1e-7, rtol=0)
    skew = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.double)  # Z = [[0, 1], [-1, 0]]
    torch.testing.assert_close(cayley(skew), torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.double))


@pytest.mark.parametrize("shape", [(2, 3, 2), (2, 2, 2)])
def test_the_gradient_of_the_cayley_transform(shape):
    """Of first and second order, real and complex, and for several matrices at once."""
    torch.manual_seed(0)
    for dtype in (torch.complex128, torch.float64):
        W = torch.randn(shape, dtype=dtype, requires_grad=True)
        assert torch.autograd.gradcheck(lambda W: cayley(W, polish=False), (W,))
        assert torch.autograd.gradgradcheck(lambda W: cayley(W, polish=False), (W,))
    pairs = torch.randn(*shape, 2, dtype=torch.float64)
    jacobian = jacrev(lambda V: torch.view_as_real(cayley(torch.view_as_complex(V))))
    torch.testing.assert_close(vmap(jacobian)(pairs), torch.stack([jacobian(V) for V in pairs]))


ACTIVATIONS = [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.LeakyReLU(0.2), nn.ELU(1.5)]


def largest_jacobian(layer, x):
    return torch.linalg.matrix_norm(vmap(jacrev(layer))(x), 2).max().item()


@every_size
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_the_sandwich_keeps_its_bound(sizes, activation):
    torch.manual_seed(0)
    for scale in (3.0, 0.1, 0.7):
        layer = randomise(Sandwich(*sizes, activation).double(), scale)
        assert largest_jacobian(layer, torch.randn(20, sizes[0], dtype=torch.double)) <= 1 + 1e-12
        AB = layer.factors().detach()
        torch.testing.assert_close(AB @ AB.mT, torch.eye(sizes[1], dtype=torch.double))
        A, B = AB.split([sizes[1], sizes[0]], 1)  # every unit active, with the largest slope
        psi = layer.log_psi.detach().exp()
        J = math.sqrt(2) * A.mT @ torch.diag(psi) @ torch.diag(math.sqrt(2) / psi) @ B
        assert torch.linalg.matrix_norm(J, 2) <= 1 + 1e-12
        Lambda, F, G = torch.diag(psi**2), math.sqrt(2) * B / psi[:, None], math.sqrt(2) * A.mT * psi
        lmi = 2 * Lambda - G.mT @ G - Lambda @ F @ F.mT @ Lambda
        assert torch.linalg.eigvalsh(lmi).min() >= -1e-10 * psi.max() ** 2
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(3):
        optimiser.zero_grad()
        (layer(torch.randn(5, sizes[0], dtype=torch.double)) - 1).square().mean().backward()
        optimiser.step()
    assert largest_jacobian(layer, torch.randn(20, sizes[0], dtype=torch.double)) <= 1 + 1e-12


def test_the_sandwich_bound_is_attained():
    """One unit with A = B = 1 / sqrt 2 computes relu(x)."""
    layer = Sandwich(1, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0], [1 - math.sqrt(2)]]))  # Z = (sqrt 2 - 1)^2
    x = torch.tensor([[3.0], [-2.0]], dtype=torch.double)
    torch.testing.assert_close(layer(x), x.relu())


LAYERS = {
    "cayley conv": (lambda: CayleyConv2d(3, 4, 3, IMAGE), (3, *IMAGE)),
    "cayley conv narrow": (lambda: CayleyConv2d(4, 2, 2, IMAGE), (4, *IMAGE)),
    "sandwich": (lambda: Sandwich(4, 5), (4,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_dtypes_caches_and_transforms(name):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = randomise(make())
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        y = layer.to(dtype)(torch.randn(2, *shape, dtype=dtype))
        y.sum().backward()
        assert y.dtype == dtype and all(torch.isfinite(p.grad).all() for p in layer.parameters())
        layer.zero_grad()
    x = torch.randn(2, *shape, dtype=torch.double)
    expected = layer(x)
    expected.square().sum().backward()
    gradients = [p.grad.clone() for p in layer.parameters()]
    layer.eval()
    for _ in range(2):
        layer.zero_grad()
        layer(x).square().sum().backward()
        torch.testing.assert_close([p.grad for p in layer.parameters()], gradients)
    parameters = dict(layer.named_parameters())
    torch.testing.assert_close(functional_call(layer, parameters, (x,)), expected)
    torch.testing.assert_close(vmap(lambda x: layer(x[None])[0])(x), expected)
    J = vmap(jacrev(lambda x: layer(x[None])[0]))(x)
    assert torch.linalg.matrix_norm(J.flatten(-len(shape)).flatten(1, -2), 2).max() <= 1 + 1e-12
    with torch.no_grad():
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x), copy.deepcopy(layer).train()(x))
        assert not torch.allclose(layer(x), expected)
        layer.weight.zero_()
        assert torch.isfinite(layer(x)).all()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.isfinite(layer.float()(x.float())).all()


def test_refusals():
    with pytest.raises(InvalidWeight, match="no orthogonal convolution"):
        orthogonal(nn.Conv2d(2, 2, 3), "exp")
    with pytest.raises(InvalidWeight, match="one of exp, cayley, householder, cholesky, bro"):
        orthogonal(nn.Linear(2, 2), "qr")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnsupportedConvolution, match="linear map is not known"):
        orthogonal(nn.Bilinear(2, 2, 2))
    with pytest.raises(InvalidWeight, match="fits into the image"):
        CayleyConv2d(2, 2, 7, IMAGE)
    with pytest.raises(UnsupportedConvolution, match="orthogonal on images"):
        CayleyConv2d(2, 2, 3, IMAGE)(torch.zeros(1, 2, 5, 5))
    with pytest.raises(UnsupportedActivation, match="falling piece"):
        Sandwich(2, 2, nn.GELU())
    with pytest.raises(InvalidWeight, match="no weight"):
        Sandwich(0, 2)


TIGHT = {
    "linear": (lambda s: rescaled(nn.Linear(5, 9), s), (5,)),
    "linear narrow": (lambda s: rescaled(nn.Linear(9, 4), s), (9,)),
    "conv": (lambda s: rescaled(nn.Conv2d(2, 6, 3, padding=1, groups=2), s), (2, *IMAGE)),
    "transposed": (lambda s: rescaled(nn.ConvTranspose2d(3, 6, 3, padding=1), s), (3, *IMAGE)),
}


@pytest.mark.parametrize("scaling", ["spectral", "aol", "sll", "multi_step"])
@pytest.mark.parametrize("name", TIGHT)
def test_initialised_rescaled_layers_are_isometries(name, scaling):
    torch.manual_seed(0)
    make, shape = TIGHT[name]
    layer = initialise(nn.Sequential(randomise(make(scaling).double())))
    slack = 0.03 if scaling == "spectral" else 1e-12  # between the frequencies of its grid
    C = matrix(layer, shape, torch.double)
    assert_isometry(C, slack)
    assert not layer(torch.zeros(1, *shape, dtype=torch.double)).any()


@pytest.mark.parametrize("hidden", [2, 4, 12])
def test_initialised_residual_layers_keep_gradients(hidden):
    torch.manual_seed(0)
    for layer, shape in ((ResidualLinear(4, hidden), (4,)), (ResidualConv2d(4, hidden, 3), (4, *IMAGE))):
        layer = initialise(randomise(layer.double()))
        torch.testing.assert_close(layer.t, torch.ones(hidden).double())
        x = 10 * torch.randn(math.prod(shape), dtype=torch.double)
        J = jacrev(lambda x, layer=layer, shape=shape: layer(x.reshape(1, *shape)).flatten())(x)
        singular = torch.linalg.svdvals(J)
        assert singular.max() <= 1 + 1e-12 and (singular > 1 - 1e-9).double().mean() > 0.9
    grouped = initialise(ResidualConv2d(4, 2, 3, geometry=Geometry(groups=2)))
    torch.testing.assert_close(grouped.t, torch.ones(2))


def test_initialise_repeats_itself_with_a_generator():
    layers = [ResidualLinear(3, 7), rescaled(nn.Linear(7, 3))]
    first = [initialise(copy.deepcopy(x), generator=torch.Generator().manual_seed(1)) for x in layers]
    second = [initialise(copy.deepcopy(x), generator=torch.Generator().manual_seed(1)) for x in layers]
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a.state_dict(), b.state_dict())


@pytest.mark.parametrize("shape", [(24, 7), (7, 24), (16, 8), (9, 1)])
def test_tall_cayley_is_orthonormal_keeps_weights_and_is_certified(shape):
    torch.manual_seed(0)
    layer = nn.Linear(*shape[::-1])
    nearest = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    orthogonal(layer, "cayley")
    assert type(layer.parametrizations.weight[0]).__name__ == "TallCayley"
    torch.testing.assert_close(layer.weight.detach(), nearest.U @ nearest.Vh, atol=1e-5, rtol=0)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    for _ in range(3):
        layer(torch.randn(4, shape[1])).square().sum().backward()
        optimiser.step()
    W = layer.weight.detach().double()
    short = W.mT @ W if shape[0] >= shape[1] else W @ W.mT
    torch.testing.assert_close(short, torch.eye(min(shape), dtype=torch.float64), atol=1e-5, rtol=0)
    assert float(lipschitz(layer)) <= 1 + 1e-5


def test_a_weight_without_a_cayley_transform_is_refused():
    layer = orthogonal(nn.Linear(2, 6), "cayley")
    with pytest.raises(InvalidWeight, match="eigenvalue -1"):
        layer.weight = torch.cat([-torch.eye(2), torch.zeros(4, 2)])


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (4, 6), (1, 3), (16, 16), (1, 1)])
@pytest.mark.parametrize("channels", [(4, 4), (2, 3), (3, 2)])
def test_products_of_real_matrices_filter_as_fast_fourier_transforms_do(size, channels):
    a, b = channels
    symbol = torch.randn(size[0], size[1] // 2 + 1, b, a, dtype=torch.complex128)
    x = torch.randn(3, a, *size, dtype=torch.float64)
    Y = symbol @ torch.fft.rfft2(x).permute(2, 3, 1, 0)
    expected = torch.fft.irfft2(Y.permute(3, 2, 0, 1), size)
    assert torch.allclose(fourier.filtered(x, symbol), expected, rtol=0, atol=1e-13)


def test_large_and_small_images_of_cayley_convolutions_meet(monkeypatch):
    layer, x = CayleyConv2d(4, 6, 3, (5, 6)).double(), torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    small = layer(x)
    monkeypatch.setattr(fourier, "LARGEST", 1)
    assert small.shape == (2, 3, 6, 5, 6) and torch.allclose(small, layer(x), rtol=0, atol=1e-13)


def test_autocast_lowers_the_products_of_a_cayley_convolution_and_not_its_matrices():
    layer, x = CayleyConv2d(8, 8, 3, (8, 8)), torch.randn(2, 8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y, symbol = layer(x), layer.symbol()
    assert symbol.dtype == torch.complex64 and y.dtype == x.dtype
    assert 0 < (y - layer(x)).abs().max() < 0.1
