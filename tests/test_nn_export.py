"""Exported networks compute the same, are proven anew, and survive files, other runtimes and the way back."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import sdplip.nn
from sdplip.bounds import bound
from sdplip.errors import RefusedModule, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.network.read.torch import read_module
from sdplip.nn import (
    AOL,
    SLL,
    Blocked,
    CayleyConv2d,
    FirstChannels,
    L2Pool1d,
    L2Pool3d,
    MultiStep,
    Optimal,
    PadChannels,
    Propagate,
    ResidualConv1d,
    ResidualConv2d,
    ResidualConv3d,
    ResidualLinear,
    Sandwich,
    Scale,
    ScaledAvgPool1d,
    ScaledAvgPool3d,
    Spectral,
    StridedResidualConv2d,
    Sum,
    orthogonal,
    rescaled,
)
from sdplip.nn.activations import Abs, GroupSort, Householder, MaxMin, NActivation
from sdplip.nn.bound import lipschitz
from sdplip.nn.containers import Concatenate, Residual
from sdplip.nn.export import export_plain, from_plain, save_onnx, save_plain, vanilla_export
from sdplip.nn.heads import LastLayerNormalised, Normalise
from sdplip.nn.pooling import Center, L2Pool2d, ScaledAvgPool2d
from sdplip.proposals import certify
from sdplip.weights import read
from tests.test_layer_laws import LAYERS as LAWS

PIXELS = (2, 6, 6)


def conv(
    geometry: Geometry = Geometry(), kernel_size=3, scaling: str = "sll", **constants: float
) -> nn.Module:
    return ResidualConv2d(2, 6, kernel_size, scaling, nn.LeakyReLU(), geometry=geometry, **constants)


MODELS = {
    "rescaled dense": lambda: (nn.Sequential(rescaled(nn.Linear(5, 30), "sll"), nn.ReLU(), rescaled(nn.Linear(30, 4))), (5,)),
    "rescaled images": lambda: (
        nn.Sequential(Normalise([0.5] * 2, [0.5] * 2), rescaled(nn.Conv2d(2, 8, 3, padding=1), "spectral"), MaxMin()),
        PIXELS,
    ),
    "transposed": lambda: (nn.Sequential(rescaled(nn.ConvTranspose2d(2, 3, 4, 2), "aol")), PIXELS),
    "orthogonal": lambda: (nn.Sequential(orthogonal(nn.Linear(5, 5)), GroupSort(5)), (5,)),
    "residual dense": lambda: (
        nn.Sequential(ResidualLinear(5, 30), ResidualLinear(5, 3, "spectral", nn.Tanh(), h=0.5, L=2)),
        (5,),
    ),
    "residual conv": lambda: (conv(), PIXELS),
    "residual circular": lambda: (conv(Geometry(padding_mode="circular", groups=2), (3, 5)), PIXELS),
    "residual even": lambda: (conv(kernel_size=(4, 3)), PIXELS),
    "residual even circular": lambda: (conv(Geometry(padding_mode="circular"), 2), PIXELS),
    "residual strided": lambda: (conv(Geometry(2, padding=1), 4, "spectral", h=0.3), PIXELS),
    "residual strided odd": lambda: (conv(Geometry((2, 3), padding=1, dilation=2, groups=2), 3), (2, 7, 6)),
    "residual valid": lambda: (conv(Geometry(padding=0, dilation=2), 3), (2, 7, 6)),
    "residual 1-D": lambda: (ResidualConv1d(2, 5, 3), (2, 7)),
    "residual 3-D": lambda: (ResidualConv3d(2, 5, 2), (2, 3, 3, 2)),
    "sandwich": lambda: (nn.Sequential(sandwich(5, 9), sandwich(9, 4)), (5,)),
    "cayley": lambda: (
        nn.Sequential(CayleyConv2d(2, 5, 3, (6, 6)), nn.ReLU(), CayleyConv2d(5, 3, 2, (6, 6), bias=False)),
        PIXELS,
    ),
    "cayley odd": lambda: (nn.Sequential(CayleyConv2d(2, 2, (3, 4), (5, 7)), MaxMin(), nn.Flatten()), (2, 5, 7)),
    "head": lambda: (nn.Sequential(nn.Linear(5, 8), Householder(8), LastLayerNormalised(8, 3)), (5,)),
    "propagation": lambda: (
        nn.Sequential(Propagate(torch.randn(6, 6).relu()), nn.Linear(4, 3), nn.ReLU(), Propagate(torch.eye(6) + 0.3)),
        (6, 4),
    ),
    "branches": lambda: (
        nn.Sequential(
            PadChannels(1), PadChannels(3), Concatenate([Residual(nn.Conv2d(6, 6, 3, padding=1)), NActivation(6)]),
            ScaledAvgPool2d(2), Center((1,)), L2Pool2d(3), nn.Flatten(), rescaled(nn.Linear(12, 3), "multi_step"),
        ),
        PIXELS,
    ),
}  # fmt: skip


def sandwich(n: int, m: int) -> Sandwich:
    module = Sandwich(n, m)
    nn.init.normal_(module.log_psi, std=0.5)
    return module


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(5, *shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
def test_exports_compute_the_same_and_have_a_bound_of_their_own(name, dtype):
    torch.manual_seed(2)
    model, shape = MODELS[name]()
    model = model.to(dtype).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export = export_plain(model, input_shape=shape)
    eps = float(torch.finfo(dtype).eps)
    x = inputs(shape, dtype)
    assert torch.allclose(export.model(x), model(x), atol=100 * eps, rtol=100 * eps)
    expected = lipschitz(
        model, input_shape=shape
    ).value  # the kernel adds some 1e-13 for the symbols of large kernels
    assert export.bound.value == pytest.approx(expected, rel=300 * eps, abs=1e-11)
    assert not any(parametrize.is_parametrized(module) for module in export.model.modules())
    assert not any("parametrizations" in key for key in export.model.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())  # untouched
    J = torch.autograd.functional.jacobian(export.model, x[:1]).reshape(-1, x[0].numel()).double()
    assert float(torch.linalg.matrix_norm(J, 2)) <= export.bound.value * (1 + 20 * eps)


OTHERS = {
    "sums": lambda: (nn.Sequential(Sum([nn.Linear(6, 5), rescaled(nn.Linear(6, 5))]), Abs(), Scale(0.3)), (6,)),
    "channels": lambda: (nn.Sequential(FirstChannels(2), Center((1,))), (4, 6, 6)),
    "pools 1-D": lambda: (nn.Sequential(L2Pool1d(2), ScaledAvgPool1d(2)), (2, 8)),
    "pools 3-D": lambda: (nn.Sequential(L2Pool3d(2), ScaledAvgPool3d(1)), (2, 4, 4, 4)),
    "strided block": lambda: (StridedResidualConv2d(3, 8, 4), (3, 8, 8)),
    "scalings": lambda: (
        nn.Sequential(
            rescaled(nn.Linear(6, 7), Optimal()), rescaled(nn.Linear(7, 5), AOL()), nn.ReLU(),
            rescaled(nn.Linear(5, 5), SLL()), rescaled(nn.Linear(5, 4), Spectral()), rescaled(nn.Linear(4, 4), MultiStep()),
        ),
        (6,),
    ),
    "identity plus images": lambda: (Residual(nn.Conv2d(8, 8, 3, padding=1)), (8, 32, 32)),
    "sums by blocks": lambda: (
        nn.Sequential(Blocked(nn.Linear(40, 5)), nn.ReLU(), Blocked(nn.Linear(5, 3))), (40,)
    ),
    "wide sandwiches": lambda: (nn.Sequential(sandwich(30, 40), sandwich(40, 2)), (30,)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
def test_the_kernel_proves_no_more_of_an_export_than_lipschitz(name):
    torch.manual_seed(2)
    model, shape = (MODELS | OTHERS)[name]()
    model = model.double().eval()
    proven = bound(read_module(export_plain(model, input_shape=shape).model, shape), "product", lower=0.0)
    assert proven.value <= lipschitz(model, input_shape=shape).value * (
        1 + 1e-6
    )  # as the weights are rounded


def test_every_layer_is_among_them():
    layers = {cls for name in sdplip.nn.__all__ if isinstance(cls := getattr(sdplip.nn, name), type)}
    torch.manual_seed(2)
    used = {
        cls
        for make in (MODELS | OTHERS | LAWS).values()
        for part in make()[0].modules()
        for cls in type(part).__mro__
    }
    assert {cls for cls in layers if issubclass(cls, nn.Module)} <= used


def test_keys_are_those_of_a_plain_network():
    model = nn.Sequential(
        rescaled(nn.Conv2d(3, 4, 3), "sll"), nn.ReLU(), ResidualConv2d(4, 2), orthogonal(nn.Linear(4, 4))
    )
    keys = list(vanilla_export(model.eval()).state_dict())
    assert keys == ["0.weight", "0.bias", "2.up.weight", "2.up.bias", "2.down.weight", "3.weight", "3.bias"]


def test_a_tampered_residual_block_gets_a_larger_bound():
    """The exported block is proven from its two weights alone, not from what it was exported from."""
    plain = export_plain(ResidualLinear(6, 20, "spectral")).model
    plain.down.weight.data *= 1.5
    bound = lipschitz(plain).value
    worst = torch.eye(6) - plain.down.weight @ plain.up.weight  # all units active
    assert bound >= float(torch.linalg.matrix_norm(worst.detach(), 2)) and bound > 1.9
    plain.down.weight.data = torch.randn_like(plain.down.weight)
    worst = torch.eye(6) - plain.down.weight @ plain.up.weight
    assert lipschitz(plain).value >= float(torch.linalg.matrix_norm(worst.detach(), 2))
    plain.down = nn.Linear(20, 6).requires_grad_(False)
    plain.down.register_forward_hook(lambda *_: None)
    with pytest.raises(RefusedModule, match="hook"):
        lipschitz(plain)


def test_a_down_layer_that_is_no_adjoint_is_refused():
    plain = export_plain(conv()).model
    plain.down.padding = (0, 0)
    with pytest.raises(RefusedModule, match="adjoint"):
        lipschitz(plain)


@pytest.mark.parametrize("geometry", [Geometry(2, "circular"), Geometry(padding=3), Geometry(dilation=2)])
def test_layers_without_plain_form_are_refused(geometry):
    model = conv(geometry, 4 if geometry.dilation == 2 else 3)
    if geometry.dilation == 2:  # reach 6: symmetric after all
        assert export_plain(model).bound.value <= 1 + 1e-4
        return
    with pytest.raises(RefusedModule, match="no plain form"):
        export_plain(model)


def test_an_exported_orthogonal_convolution_is_one_of_its_image_size():
    torch.manual_seed(0)
    export = export_plain(CayleyConv2d(3, 4, 3, (5, 4)).eval())
    assert isinstance(export.model, nn.Conv2d) and list(export.model.state_dict()) == ["weight", "bias"]
    assert 1 - 1e-6 < export.bound.value < 1 + 1e-5  # of that size, though the model was not told
    unknown = nn.Conv2d(3, 4, (5, 4), padding="same", padding_mode="circular")
    unknown.load_state_dict(export.model.state_dict())
    assert lipschitz(unknown).value > 1.01  # of every size
    with pytest.raises(UnsupportedConvolution, match="images of"):
        export.model(torch.zeros(1, 3, 5, 5))
    with torch.no_grad():
        export.model.weight *= 1.5
    J = torch.autograd.functional.jacobian(export.model, torch.zeros(1, 3, 5, 4)).reshape(80, 60).double()
    assert float(torch.linalg.matrix_norm(J, 2)) <= lipschitz(export.model).value * (1 + 1e-6)


def test_unbounded_models_are_not_exported():
    with pytest.raises(RefusedModule, match="reflect"):
        export_plain(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")))


def test_safetensors_files_are_read_by_the_check(tmp_path):
    model = nn.Sequential(rescaled(nn.Linear(5, 8), "sll"), nn.ReLU(), ResidualLinear(8, 6)).eval()
    bound = save_plain(model, tmp_path / "model.safetensors")
    first, up, down = read(tmp_path / "model.safetensors")
    assert (first.name, up.name, down.name) == ("0.weight", "2.down.weight", "2.up.weight")
    assert certify(first.array, np.ones(5)).c == bound.parts[0].value
    assert first.array.tobytes() == model[0].weight.detach().numpy().tobytes()


@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_computes_the_same(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(2)
    model, shape = MODELS[name]()
    save_onnx(model.eval(), tmp_path / "model.onnx", input_shape=shape)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]  # the weights are inside
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    x = inputs(shape)
    (y,) = session.run(None, {"input": x.numpy()})
    assert abs(y - model(x).detach().numpy()).max() < 1e-5


def test_onnx_files_hold_the_weights_that_were_proven(tmp_path):
    pytest.importorskip("onnx")
    model = nn.Sequential(
        rescaled(nn.Conv2d(2, 8, 3, padding=1), "aol"), nn.ReLU(), nn.Flatten(), rescaled(nn.Linear(128, 3))
    )
    save_onnx(model.eval(), tmp_path / "model.onnx", input_shape=(2, 4, 4))
    kernel, matrix = read(tmp_path / "model.onnx")
    assert kernel.array.tobytes() == model[0].weight.detach().numpy().tobytes()
    assert matrix.array.tobytes() == model[3].weight.detach().numpy().tobytes()


def test_plain_weights_can_be_loaded_and_are_projected():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4))
    model = nn.Sequential(
        rescaled(nn.Linear(5, 8), "spectral"), nn.ReLU(), rescaled(nn.Linear(8, 4), "aol")
    ).eval()
    model(torch.zeros(1, 5))
    from_plain(model, plain)
    assert lipschitz(model).value <= 1 + 1e-5
    ratio = model[0].weight / plain[0].weight
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-4)  # the same direction
    assert torch.equal(model[0].bias, plain[0].bias)
    again = vanilla_export(model)
    from_plain(model, again)  # and what fits already stays
    assert torch.allclose(model[2].weight, again[2].weight, rtol=1e-4, atol=1e-6)
    with pytest.raises(KeyError, match=r"lacks \['2.bias'"):
        from_plain(model, nn.Sequential(nn.Linear(5, 8)))
