"""`lipschitz(module)`: every class of `torch.nn` has a rule with a law, or is refused; bounds compose; nothing unknown passes."""

import copy
import inspect
from math import sqrt

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from sdplip.errors import RefusedModule, SdplipError, UnknownModule
from sdplip.geometry import Geometry
from sdplip.kernel.condition import holds
from sdplip.nn import (
    AOL,
    CayleyConv2d,
    PadChannels,
    ResidualConv1d,
    ResidualConv2d,
    ResidualConv3d,
    ResidualLinear,
    Sandwich,
    orthogonal,
    rescaled,
)
from sdplip.nn.activations import Abs, GroupSort, Householder, MaxMin, NActivation
from sdplip.nn.bound import Bound, lipschitz, pairwise_lipschitz
from sdplip.nn.containers import Concatenate, Residual, Scale, Sum
from sdplip.nn.estimate import estimate_lipschitz
from sdplip.nn.heads import LastLayerNormalised, Normalise
from sdplip.nn.pooling import Center, FirstChannels, L2Pool2d, ScaledAvgPool2d

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's own remark about speed


def bn(cls: type, *args) -> nn.Module:
    module = cls(*args)
    if module.running_var is not None:
        module.running_var.uniform_(0.2, 3)
    if module.weight is not None:
        module.weight.data.normal_()
    return module


ACCEPTED = {  # class: list of (module, shape of one sample)
    nn.Linear: [lambda: (nn.Linear(6, 9), (6,)), lambda: (nn.Linear(6, 2, bias=False), (5, 6))],
    nn.Conv1d: [lambda: (nn.Conv1d(2, 8, 4, padding="same"), (2, 9)), lambda: (nn.Conv1d(2, 6, 3, 2, 4, groups=2), (2, 8))],
    nn.Conv2d: [
        lambda: (nn.Conv2d(2, 20, 3, padding=1), (2, 5, 5)),
        lambda: (nn.Conv2d(2, 12, 3, 2, 1, padding_mode="circular"), (2, 6, 6)),
        lambda: (nn.Conv2d(2, 12, (3, 2), 2, 1, 2), (2, 6, 7)),
    ],
    nn.Conv3d: [lambda: (nn.Conv3d(2, 6, 2, padding="valid"), (2, 3, 4, 3))],
    nn.ConvTranspose1d: [lambda: (nn.ConvTranspose1d(4, 2, 3, 2, 1, 1), (4, 5))],
    nn.ConvTranspose2d: [lambda: (nn.ConvTranspose2d(6, 2, 4, 2, 1, groups=2), (6, 4, 4))],
    nn.ConvTranspose3d: [lambda: (nn.ConvTranspose3d(2, 2, 2, 2), (2, 2, 2, 3))],
    nn.PReLU: [lambda: (nn.PReLU(3, init=-1.7), (3, 4))],
    nn.LogSoftmax: [lambda: (nn.LogSoftmax(1), (7,))],
    nn.Softmax: [lambda: (nn.Softmax(-1), (2,)), lambda: (nn.Softmax(1), (7,))],
    nn.Softmin: [lambda: (nn.Softmin(-1), (3,))],
    nn.Softmax2d: [lambda: (nn.Softmax2d(), (3, 2, 2))],
    nn.GELU: [lambda: (nn.GELU(), (9,)), lambda: (nn.GELU("tanh"), (9,))],
    nn.LeakyReLU: [lambda: (nn.LeakyReLU(0.2), (9,)), lambda: (nn.LeakyReLU(-3.3), (9,))],
    nn.ELU: [lambda: (nn.ELU(), (9,)), lambda: (nn.ELU(1.7), (9,))],
    nn.CELU: [lambda: (nn.CELU(0.3), (9,))],
    nn.Hardtanh: [lambda: (nn.Hardtanh(-2, 0.5), (9,))],
    nn.Softplus: [lambda: (nn.Softplus(3.0), (9,))],
    nn.Threshold: [lambda: (nn.Threshold(0.3, 0.3), (9,))],
    nn.MaxPool1d: [lambda: (nn.MaxPool1d(3, 1, 1), (1, 7)), lambda: (nn.MaxPool1d(3, 2, 0, 2), (2, 9))],
    nn.MaxPool2d: [lambda: (nn.MaxPool2d(2), (2, 5, 4)), lambda: (nn.MaxPool2d((2, 3), (3, 2)), (1, 7, 7))],
    nn.MaxPool3d: [lambda: (nn.MaxPool3d(2, 1), (1, 3, 3, 3))],
    nn.AvgPool1d: [lambda: (nn.AvgPool1d(3, 1, 1), (1, 9)), lambda: (nn.AvgPool1d(2), (2, 9))],
    nn.AvgPool2d: [
        lambda: (nn.AvgPool2d(3, 2, 1), (1, 7, 7)),
        lambda: (nn.AvgPool2d((2, 3), divisor_override=1), (2, 5, 6)),
        lambda: (nn.AvgPool2d(2, 1, count_include_pad=False), (1, 4, 4)),
    ],
    nn.AvgPool3d: [lambda: (nn.AvgPool3d(2, divisor_override=3), (1, 4, 4, 4))],
    nn.LPPool1d: [lambda: (nn.LPPool1d(2, 3, 2), (2, 8))],
    nn.LPPool2d: [lambda: (nn.LPPool2d(2, 2), (2, 4, 4)), lambda: (nn.LPPool2d(4, 2), (2, 4, 4))],
    nn.LPPool3d: [lambda: (nn.LPPool3d(2, 2), (1, 4, 4, 4))],
    nn.AdaptiveAvgPool1d: [lambda: (nn.AdaptiveAvgPool1d(3), (2, 6))],
    nn.AdaptiveAvgPool2d: [lambda: (nn.AdaptiveAvgPool2d((2, None)), (2, 4, 3)), lambda: (nn.AdaptiveAvgPool2d(1), (2, 4, 3))],
    nn.AdaptiveAvgPool3d: [lambda: (nn.AdaptiveAvgPool3d(1), (1, 2, 2, 2))],
    nn.AdaptiveMaxPool1d: [lambda: (nn.AdaptiveMaxPool1d(2), (2, 6))],
    nn.AdaptiveMaxPool2d: [lambda: (nn.AdaptiveMaxPool2d(2), (2, 4, 6))],
    nn.AdaptiveMaxPool3d: [lambda: (nn.AdaptiveMaxPool3d(1), (1, 2, 2, 2))],
    nn.BatchNorm1d: [lambda: (bn(nn.BatchNorm1d, 4), (4,))],
    nn.BatchNorm2d: [lambda: (bn(nn.BatchNorm2d, 3), (3, 2, 2))],
    nn.BatchNorm3d: [lambda: (bn(nn.BatchNorm3d, 2), (2, 2, 2, 2))],
    nn.SyncBatchNorm: [lambda: (bn(nn.SyncBatchNorm, 3), (3, 2, 2))],
    nn.InstanceNorm1d: [lambda: (bn(nn.InstanceNorm1d, 2, 0.1), (2, 4))],
    nn.InstanceNorm2d: [lambda: (bn(nn.InstanceNorm2d, 2, 0.1, 0.1, True, True), (2, 2, 3))],
    nn.InstanceNorm3d: [lambda: (bn(nn.InstanceNorm3d, 2, 0.1), (2, 2, 2, 2))],
    nn.LayerNorm: [lambda: (nn.LayerNorm(5, eps=0.3), (5,))],
    nn.GroupNorm: [lambda: (nn.GroupNorm(2, 4, eps=0.3), (4, 3))],
    nn.RMSNorm: [lambda: (nn.RMSNorm(5, eps=0.3), (5,))],
    nn.Flatten: [lambda: (nn.Flatten(), (2, 3))],
    nn.Unflatten: [lambda: (nn.Unflatten(1, (2, 3)), (6,))],
    nn.PixelShuffle: [lambda: (nn.PixelShuffle(2), (4, 2, 2))],
    nn.PixelUnshuffle: [lambda: (nn.PixelUnshuffle(2), (1, 4, 4))],
    nn.ChannelShuffle: [lambda: (nn.ChannelShuffle(2), (4, 2, 2))],
    nn.ZeroPad1d: [lambda: (nn.ZeroPad1d(2), (2, 3))],
    nn.ZeroPad2d: [lambda: (nn.ZeroPad2d((1, -1, 0, 2)), (2, 3, 3))],
    nn.ZeroPad3d: [lambda: (nn.ZeroPad3d(1), (1, 2, 2, 2))],
    nn.ConstantPad1d: [lambda: (nn.ConstantPad1d(2, 3.0), (2, 3))],
    nn.ConstantPad2d: [lambda: (nn.ConstantPad2d(1, 3.0), (2, 3, 3))],
    nn.ConstantPad3d: [lambda: (nn.ConstantPad3d(1, 3.0), (1, 2, 2, 2))],
    nn.CircularPad1d: [lambda: (nn.CircularPad1d((1, 1)), (2, 3)), lambda: (nn.CircularPad1d(3), (1, 3))],
    nn.CircularPad2d: [lambda: (nn.CircularPad2d((2, 2, 0, 1)), (1, 3, 3))],
    nn.CircularPad3d: [lambda: (nn.CircularPad3d(1), (1, 2, 2, 2))],
    nn.Unfold: [lambda: (nn.Unfold(3, 1, 1), (1, 4, 5))],
    nn.Fold: [lambda: (nn.Fold((4, 5), 2), (4, 12))],
    nn.Upsample: [lambda: (nn.Upsample(scale_factor=2), (1, 2, 3))],
    nn.UpsamplingNearest2d: [lambda: (nn.UpsamplingNearest2d(scale_factor=3), (1, 2, 2))],
    nn.Sequential: [lambda: (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), (4,))],
}  # fmt: skip
ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.Softsign, nn.Softshrink, nn.Tanhshrink, nn.LogSigmoid, nn.Hardsigmoid,
    nn.Hardswish, nn.SELU, nn.SiLU, nn.Mish, nn.RReLU, nn.Identity, nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
for _cls in ELEMENTWISE:
    ACCEPTED[_cls] = [lambda c=_cls: (c(), (9,))]
for _cls, _shape in ((nn.Dropout1d, (3, 4)), (nn.Dropout2d, (3, 2, 2)), (nn.Dropout3d, (3, 2, 2, 2))):
    ACCEPTED[_cls] = [lambda c=_cls, s=_shape: (c(), s)]

OURS = {
    "GroupSort": lambda: (GroupSort(3), (6, 2)),
    "GroupSort2": lambda: (GroupSort(2, -1), (2, 6)),
    "MaxMin": lambda: (MaxMin(), (6, 2)),
    "Householder": lambda: (Householder(6), (6, 2)),
    "NActivation": lambda: (NActivation(3), (3, 4)),
    "Abs": lambda: (Abs(), (4,)),
    "ScaledAvgPool2d": lambda: (ScaledAvgPool2d((3, 2)), (2, 7, 6)),
    "L2Pool2d": lambda: (L2Pool2d(2), (2, 5, 4)),
    "Center": lambda: (Center((1, -1)), (2, 3)),
    "FirstChannels": lambda: (FirstChannels(1), (2, 3)),
    "Normalise": lambda: (Normalise([0.5, 0.4], [0.3, 0.2]), (2, 3)),
    "Scale": lambda: (Scale(-1.7), (3,)),
    "LastLayerNormalised": lambda: (LastLayerNormalised(6, 30), (6,)),
    "Concatenate": lambda: (Concatenate([nn.Linear(4, 5), nn.Identity(), nn.Tanh()]), (4,)),
    "Sum": lambda: (Sum([nn.Linear(4, 4), nn.Identity()]), (4,)),
    "Residual": lambda: (Residual(nn.Linear(4, 4)), (4,)),
    "ResidualConv": lambda: (Residual(nn.Conv2d(2, 2, 3, padding=1)), (2, 4, 5)),
    "ResidualConvEven": lambda: (
        Residual(nn.Conv2d(4, 4, (2, 5), padding="same", groups=2, dilation=2)),
        (4, 6, 5),
    ),
    "ResidualLinear sll": lambda: (ResidualLinear(5, 9, "sll"), (5,)),
    "ResidualLinear h": lambda: (ResidualLinear(5, 9, "spectral", nn.Sigmoid(), h=-0.3, L=2.7), (5,)),
    "ResidualConv2d": lambda: (ResidualConv2d(2, 9, 3, "aol", nn.LeakyReLU()), (2, 5, 5)),
    "ResidualConv2d stride": lambda: (
        ResidualConv2d(2, 6, 4, "spectral", h=0.0, geometry=Geometry(2, "circular", groups=2)),
        (2, 6, 7),
    ),
    "ResidualConv1d": lambda: (ResidualConv1d(2, 6, 2, "multi_step", nn.Tanh()), (2, 7)),
    "ResidualConv3d": lambda: (ResidualConv3d(2, 6, 2, "sll", nn.ELU()), (2, 3, 3, 2)),
    "PadChannels": lambda: (PadChannels(3), (2, 4)),
    "Sandwich": lambda: (wide_sandwich(), (5,)),
    "CayleyConv2d": lambda: (CayleyConv2d(2, 5, 3, (4, 5)), (2, 4, 5)),
    "CayleyConv2d narrower": lambda: (CayleyConv2d(4, 2, 2, (4, 4)), (4, 4, 4)),
    "orthogonal cayley": lambda: (orthogonal(nn.Linear(5, 9), "cayley"), (5,)),
    "rescaled Linear": lambda: (rescaled(nn.Linear(5, 9), "sll"), (5,)),
    "rescaled Conv2d": lambda: (rescaled(nn.Conv2d(2, 20, 3, padding=1), "aol"), (2, 5, 5)),
    "rescaled ConvTranspose2d": lambda: (rescaled(nn.ConvTranspose2d(4, 2, 4, 2), "spectral"), (4, 3, 3)),
    "torch orthogonal": lambda: (parametrizations.orthogonal(nn.Linear(5, 5)), (5,)),
    "torch spectral_norm": lambda: (parametrizations.spectral_norm(nn.Linear(5, 7)), (5,)),
    "torch weight_norm": lambda: (parametrizations.weight_norm(nn.Linear(5, 7)), (5,)),
}


def wide_sandwich() -> Sandwich:
    module = Sandwich(5, 8, nn.Softplus())
    nn.init.normal_(module.log_psi)
    return module


def jacobian_norm(module: nn.Module, shape: tuple[int, ...]) -> float:
    """Largest singular value of the Jacobian at inputs of several sizes, and at a constant one."""
    largest = 0.0
    generator = torch.Generator().manual_seed(0)
    for scale in (0.0, 0.3, 1.0, 4.0):
        x = scale * torch.randn(1, *shape, generator=generator, dtype=torch.float64) + 0.1
        J = torch.autograd.functional.jacobian(module, x)
        largest = max(largest, float(torch.linalg.matrix_norm(J.reshape(-1, x.numel()), 2)))
    return largest


def every_case() -> list:
    torch_cases = [
        (f"{cls.__name__}-{i}", make) for cls, makes in ACCEPTED.items() for i, make in enumerate(makes)
    ]
    return [pytest.param(make, id=name) for name, make in [*torch_cases, *OURS.items()]]


@pytest.mark.parametrize("make", every_case())
def test_no_jacobian_exceeds_the_bound(make):
    torch.manual_seed(3)
    module, shape = make()
    module = module.eval().double()
    exact = lipschitz(module, input_shape=shape)
    truth = jacobian_norm(module, shape)
    assert truth <= exact.value * (1 + 1e-12)  # the Jacobian and its norm are rounded in double
    single = lipschitz(module.float(), input_shape=shape)
    assert truth <= single.value * (1 + 1e-6)  # `float()` rounds the parameters of double modules
    if needs_the_shape(module):
        with pytest.raises(RefusedModule, match="input_shape"):
            lipschitz(module)
    else:
        assert truth <= lipschitz(module).value * (1 + 1e-6)


def needs_the_shape(module: nn.Module) -> bool:
    if isinstance(module, nn.Upsample | nn.LogSoftmax):
        return True
    return type(module).__name__.startswith("Adaptive") and module.output_size not in (1, (1, 1), (1, 1, 1))


TIGHT = [
    "Linear-0",
    "AvgPool1d-1",
    "AvgPool2d-1",
    "CircularPad1d-1",
    "Unfold-0",
    "Upsample-0",
    "LayerNorm-0",
    "BatchNorm2d-0",
]


@pytest.mark.parametrize("make", [case for case in every_case() if case.id in TIGHT])
def test_bounds_that_are_attained(make):
    module, shape = make()
    module = module.eval().double()
    assert lipschitz(module, input_shape=shape).value <= jacobian_norm(module, shape) * (
        1 + 1e-5
    )  # eps as single


INSTANCES = {
    "AdaptiveLogSoftmaxWithLoss": lambda c: c(4, 6, [2]),
    "Bilinear": lambda c: c(2, 2, 2),
    "CrossMapLRN2d": lambda c: c(2),
    "LocalResponseNorm": lambda c: c(2),
    "Embedding": lambda c: c(3, 2),
    "EmbeddingBag": lambda c: c(3, 2),
    "FractionalMaxPool2d": lambda c: c(2, output_size=2),
    "FractionalMaxPool3d": lambda c: c(2, output_size=2),
    "MultiheadAttention": lambda c: c(4, 2),
    "Transformer": lambda c: c(4, 2, 1, 1, 4, batch_first=True),
    "TransformerEncoder": lambda c: c(nn.TransformerEncoderLayer(4, 2, 4, batch_first=True), 1),
    "TransformerEncoderLayer": lambda c: c(4, 2, 4),
    "TransformerDecoder": lambda c: c(nn.TransformerDecoderLayer(4, 2, 4), 1),
    "TransformerDecoderLayer": lambda c: c(4, 2, 4),
    "RNNBase": lambda c: c("LSTM", 2, 2),
    "RNNCellBase": lambda c: c(2, 2, True, 4),
    "LinearCrossEntropyLoss": lambda c: c(2, 2),
    "DataParallel": lambda c: c(nn.Linear(2, 2)),
    "UpsamplingBilinear2d": lambda c: c(scale_factor=2),
    "Threshold": lambda c: c(0, 1),
}
for _name in ("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"):
    INSTANCES[_name] = lambda c: c(2, 2)
for _name in (
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
):
    INSTANCES[_name] = lambda c: c(1)
INSTANCES["ReplicationPad3d"] = lambda c: c(1)
for _name in ("MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"):
    INSTANCES[_name] = lambda c: c(2)


def torch_classes() -> list[type[nn.Module]]:
    return [c for c in vars(nn).values() if inspect.isclass(c) and issubclass(c, nn.Module)]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # torch's own, of a Transformer that we refuse
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")  # `nn.Container` and `nn.NLLLoss2d`
@pytest.mark.parametrize("cls", [c for c in torch_classes() if c not in ACCEPTED], ids=lambda c: c.__name__)
def test_every_other_class_of_torch_is_refused(cls):
    if cls.__name__.startswith("Lazy"):
        module = cls(2, 2) if "Conv" in cls.__name__ else cls(2) if cls is nn.LazyLinear else cls()
    else:
        module = INSTANCES.get(cls.__name__, lambda c: c())(cls)
    with pytest.raises(RefusedModule):
        lipschitz(module.eval(), input_shape=(3, 8, 8))


class Shifted(nn.Linear):
    def forward(self, input):
        return 3 * super().forward(input)


class Renamed(nn.Linear):
    """Changes nothing of the forward pass."""

    def __init__(self, n: int) -> None:
        super().__init__(n, n)


class Rewired(nn.Conv2d):
    def _conv_forward(self, *args):
        return 3 * super()._conv_forward(*args)


class Called(nn.ReLU):
    def __call__(self, x):
        return 3 * x


class MLP(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 3), nn.ReLU())


def patched() -> nn.Module:
    module = nn.Linear(2, 2)
    module.forward = lambda x: 3 * x
    return module


def hooked(register: str) -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2))
    getattr(module[0], register)(lambda *_: None)
    return module


def with_nan() -> nn.Module:
    module = nn.Linear(2, 2)
    module.weight.data[0, 1] = torch.nan
    return module


def stale() -> nn.Module:
    module = rescaled(nn.Linear(3, 3), "aol").eval()
    module(torch.ones(1, 3))
    module.parametrizations.weight.original.data.mul_(torch.tensor([1.0, 7.0, 1.0]))
    return module


REFUSED = {
    "subclass with forward": (lambda: Shifted(2, 2), "forward"),
    "subclass below forward": (lambda: Rewired(2, 2, 1), "_conv_forward"),
    "subclass with __call__": (Called, "__call__"),
    "patched object": (patched, "replaced on this one object"),
    "forward hook": (lambda: hooked("register_forward_hook"), "hook"),
    "forward pre-hook": (lambda: hooked("register_forward_pre_hook"), "hook"),
    "train-mode batch norm": (lambda: nn.BatchNorm1d(2).train(), "eval"),
    "batch norm without statistics": (lambda: nn.BatchNorm1d(2, track_running_stats=False).eval(), "statistics"),
    "train-mode dropout": (lambda: nn.Dropout().train(), "eval"),
    "train-mode RReLU": (lambda: nn.RReLU().train(), "eval"),
    "train-mode spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(2, 2)).train(), "eval"),
    "reflect": (lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "reflect"),
    "replicate": (lambda: nn.Conv1d(2, 2, 3, padding=1, padding_mode="replicate"), "replicate"),
    "reflect module": (lambda: nn.ReflectionPad2d(1), "Zero"),
    "partial max windows": (lambda: nn.MaxPool2d(3, ceil_mode=True), "ceil_mode"),
    "partial mean windows": (lambda: nn.AvgPool2d(3, ceil_mode=True), "ceil_mode"),
    "fewer pixels at the border": (lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False), "count_include_pad"),
    "odd powers": (lambda: nn.LPPool2d(3, 2), "norm_type"),
    "NaN": (with_nan, "NaN"),
    "stale cache": (stale, "eval"),
    "meta device": (lambda: nn.Linear(2, 2, device="meta"), "meta"),
    "complex weights": (lambda: nn.Linear(2, 2, dtype=torch.complex64), "complex64"),
    "softmax over the batch": (lambda: nn.Softmax(0), "batch"),
    "softmax over an unknown axis": (lambda: nn.Softmax(-3), "batch"),
    "flattened batch": (lambda: nn.Flatten(0), "batch"),
    "unflattened batch": (lambda: nn.Unflatten(0, (1, 2)), "batch"),
    "pruned": (lambda: prune.random_unstructured(nn.Linear(2, 2), "weight", 1), "hook"),
    "a list": (lambda: nn.ModuleList([nn.Linear(2, 2)]), "Sequential"),
    "discontinuous": (lambda: nn.Threshold(0.0, 1.0), "jumps"),
    "small threshold of softplus": (lambda: nn.Softplus(threshold=3), "jumps"),
    "MaxMin in a residual block": (lambda: changed_activation(MaxMin()), "MaxMin"),
    "kept t": (lambda: kept().train(), "eval"),
}  # fmt: skip


def changed_activation(activation: nn.Module) -> nn.Module:
    block = ResidualLinear(4, 4)
    block.activation = activation
    return block


def kept() -> nn.Module:
    return ResidualLinear(4, 4, AOL(refresh_every=3))


@pytest.mark.parametrize(("make", "word"), REFUSED.values(), ids=REFUSED)
def test_refusals_say_why(make, word):
    with pytest.raises(RefusedModule, match=word):
        lipschitz(make())
    with pytest.raises(RefusedModule, match=r"`0[.\d]*`"):  # and where
        lipschitz(nn.Sequential(make()))


def test_unknown_modules_are_refused_by_name():
    class Mine(nn.Module):
        def forward(self, x):
            return 2 * x

    with pytest.raises(UnknownModule, match=r"`1` \(Mine\) has no rule"):
        lipschitz(nn.Sequential(nn.ReLU(), Mine()))
    with pytest.raises(UnknownModule, match="float"):
        lipschitz(2.0)  # pyright: ignore[reportArgumentType]

    @lipschitz.register(Mine)
    def _(module, context):  # noqa: ARG001
        return Bound(2.0, "doubles")

    assert lipschitz(nn.Sequential(nn.ReLU(), Mine())).value == 2

    class Yours(Mine):
        def forward(self, x):
            return 4 * x

    with pytest.raises(RefusedModule, match="changes `forward` of `Mine`"):
        lipschitz(Yours())
    Mine.forward = Yours.forward
    with pytest.raises(RefusedModule, match="was replaced after"):
        lipschitz(Mine())


def test_rules_that_return_no_bound_are_refused():
    class Broken(nn.Module):
        def forward(self, x):
            return x

    @lipschitz.register(Broken)
    def _(module, context):  # noqa: ARG001
        return Bound(float("nan"), "nothing")

    with pytest.raises(RefusedModule, match="nan"):
        lipschitz(Broken())


def test_harmless_subclasses_are_known():
    assert lipschitz(Renamed(3)).value > 0
    assert len(lipschitz(MLP()).parts) == 2


def test_global_hooks_and_autocast_are_refused():
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with pytest.raises(RefusedModule, match="hook"):
            lipschitz(nn.ReLU())
    finally:
        handle.remove()
    with torch.autocast("cpu"), pytest.raises(RefusedModule, match="autocast"):
        lipschitz(nn.Linear(2, 2))


def test_composition_by_hand():
    half, triple = Scale(0.5), Scale(3.0)
    assert lipschitz(nn.Sequential(half, triple, nn.ReLU())).value == 1.5
    assert lipschitz(Concatenate([half, triple])).value == pytest.approx(sqrt(9.25), rel=1e-15)
    assert lipschitz(Concatenate([nn.Identity()] * 4)).value == 2
    assert lipschitz(Sum([half, triple])).value == pytest.approx(3.5, rel=1e-15)
    assert lipschitz(Residual(half)).value == pytest.approx(1.5, rel=1e-15)
    assert lipschitz(nn.Sequential()).value == 1
    assert lipschitz(nn.MaxPool2d(3, 2)).value == 2  # up to 2 x 2 windows
    assert lipschitz(nn.MaxPool2d(2, (2, 2))).value == 1
    assert (
        lipschitz(nn.MaxPool2d(3, 2, dilation=2)).value == 3
    )  # dilation keeps all taps in one phase of the stride
    assert lipschitz(nn.AvgPool2d(2)).value == 0.5
    assert lipschitz(nn.AvgPool2d(2, divisor_override=1)).value == 2
    assert lipschitz(Normalise([0.5] * 3, [0.25, 0.5, 1.0])).value == 4
    assert lipschitz(nn.Sequential(nn.PixelUnshuffle(2), ScaledAvgPool2d(4), MaxMin())).value == 1


def test_the_better_bound_wins_and_the_loser_stays_visible():
    branch = nn.Linear(3, 3, bias=False)
    branch.weight.data = -0.9 * torch.eye(3)
    bound = lipschitz(Residual(branch))
    assert bound.value == pytest.approx(0.1, rel=1e-6)
    assert [other.value for other in bound.others] == [pytest.approx(1.9, rel=1e-6)]
    assert "also valid: <= 1.9" in str(bound)


def test_printed_numbers_are_rounded_up():
    tree = str(lipschitz(nn.Sequential(nn.Linear(3, 3), nn.ReLU())))
    assert "0: Linear" in tree and "1: ReLU <= 1 " in tree
    assert str(Bound(0.123456781, "x")).split()[1] == "0.12345679"


def test_certificates_are_the_kernels():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), ResidualLinear(6, 3))
    (_, first), (_, second) = lipschitz(model).certificates()
    assert holds(model[0].weight.detach().numpy(), first.t, first.c)
    assert holds(model[2].weight.detach().numpy().T, second.t, second.c)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_numbers_that_run_are_those_of_the_dtype(dtype):
    torch.manual_seed(0)
    module = nn.Linear(20, 30).to(dtype)
    truth = float(np.linalg.norm(module.weight.detach().double().numpy(), 2))
    bound = lipschitz(module).value
    assert truth <= bound <= truth * (1 + 1e-12)


def test_residual_layers_prove_the_step_that_runs():
    block = ResidualLinear(6, 40, "spectral")
    assert lipschitz(block).value <= 1 + 1e-6
    scaling = copy.deepcopy(block)
    scaling.L = 1.5  # the step is now longer than the bound of L = 1 allows
    longer = lipschitz(scaling.double())
    assert jacobian_norm(scaling, (6,)) <= longer.value <= 1.5 + 1e-6


def test_zero_weights_and_unused_units():
    layer = nn.Linear(3, 2)
    layer.weight.data.zero_()
    assert lipschitz(layer).value == 0
    assert lipschitz(nn.Sequential(layer, nn.Tanh())).value == 0
    block = ResidualLinear(4, 3)
    block.weight.data[1] = 0
    assert lipschitz(block).value <= 1 + 1e-6
    block.weight.data.zero_()
    assert lipschitz(block).value == 1


def test_pairs_of_classes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), LastLayerNormalised(6, 5)).double()
    pairs = pairwise_lipschitz(model)
    U = model[-1].rows().detach()
    distances = torch.cdist(U, U).numpy()
    assert (distances * pairs.backbone.value <= pairs.values * (1 + 1e-12)).all()
    assert (pairs.values <= distances * pairs.backbone.value * (1 + 1e-5) + 1e-12).all()
    assert (pairs.values <= sqrt(2) * lipschitz(model).value * (1 + 1e-6)).all()
    x, y = torch.randn(2, 200, 8, dtype=torch.float64)
    margins = (model(x)[:, :, None] - model(x)[:, None]) - (model(y)[:, :, None] - model(y)[:, None])
    assert (
        abs(margins).detach().numpy() <= pairs.values * (x - y).norm(dim=1)[:, None, None].numpy() + 1e-12
    ).all()
    with pytest.raises(SdplipError, match="linear head"):
        pairwise_lipschitz(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))


MODELS = {
    "dense": lambda: (
        nn.Sequential(nn.Linear(5, 30), nn.Tanh(), ResidualLinear(30, 9, "spectral"), nn.Linear(30, 3)),
        (5,),
    ),
    "images": lambda: (
        nn.Sequential(
            nn.Conv2d(2, 9, 3, padding=1), MaxMin(dim=2), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(36, 4)
        ),
        (2, 6, 6),
    ),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_estimates_stay_below_bounds(make):
    torch.manual_seed(1)
    module, shape = make()
    for dtype in (torch.float32, torch.float64):
        module = module.to(dtype)
        bound = lipschitz(module, input_shape=shape).value
        x = torch.randn(4, *shape, dtype=dtype)
        plain = estimate_lipschitz(module, x, ascent_steps=0, generator=torch.Generator().manual_seed(0))
        climbed = estimate_lipschitz(module, x, ascent_steps=10, generator=torch.Generator().manual_seed(0))
        assert 0 < plain <= climbed <= bound


def test_estimates_of_linear_maps_are_exact():
    layer = nn.Linear(7, 30).double()
    estimate = estimate_lipschitz(layer, torch.zeros(2, 7, dtype=torch.float64), iterations=200)
    assert estimate == pytest.approx(float(torch.linalg.matrix_norm(layer.weight.detach(), 2)), rel=1e-6)


def test_lazy_layers_are_refused_for_what_they_lack():
    with pytest.raises(RefusedModule, match="no shape yet"):
        lipschitz(nn.LazyLinear(3))


def test_an_averaged_operator_is_proven_and_finds_its_fixed_point():
    """The turn by 90 degrees has no limit; averaged with the identity it goes to its fixed point, the origin."""
    turn = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    turn.weight.data = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    averaged = Sum([Scale(0.5), nn.Sequential(turn, Scale(0.5))])
    assert 1 <= float(lipschitz(averaged)) <= 1 + 1e-12
    x = torch.ones(1, 2, dtype=torch.float64)
    for _ in range(100):
        x = averaged(x)
    assert float(x.detach().norm()) < 1e-14
