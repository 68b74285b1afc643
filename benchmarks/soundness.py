r"""Exact norms against proven bounds, for every combination of a layer and its settings that we accept; refusals are counted.

    python benchmarks/soundness.py               # everything
    python benchmarks/soundness.py --every 10    # a tenth of the combinations, drawn at random

Each layer is a linear map, or piecewise linear (residual and sandwich layers: all units active, and half of them). The largest
singular value of its dense matrix is computed in double precision on the numbers that run, and compared with
`lipschitz(layer, input_shape=...)` and with `lipschitz(layer)`, which speaks about every image size; the least singular value with
`lower_lipschitz`, where that proves one. A violation is a norm above the bound times 1 + 1e-12, or a least value below its bound.
Layers are wide (more outputs than inputs in a window), because narrow layers hide padding defects. Weights are random, adversarial
(all equal: the worst case of row sums and of borders; one tap; rank one) or trained (steps of gradient ascent on the length of the
outputs, through T). bfloat16 and float16 weights are rounded after that.

    python benchmarks/soundness.py --others      # only deel-torchlip and orthogonium, where installed, beside ours
"""

import argparse
import copy
import functools
import importlib
import importlib.util
import itertools
import math
import random
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sdplip.errors import SdplipError
from sdplip.geometry import Geometry
from sdplip.nn import (
    ActNorm,
    BatchLipNorm,
    BiLipschitz,
    BROConv2d,
    CayleyConv2d,
    CenterNorm,
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
    MaxMin,
    Recurrent,
    ResidualConv1d,
    ResidualConv2d,
    ResidualConv3d,
    ResidualLinear,
    Sandwich,
    SandwichConv2d,
    Shift2d,
    StridedResidualConv2d,
    fourier,
    orthogonal,
    rescaled,
)
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.bound import lipschitz, lower_lipschitz
from sdplip.nn.export import _plain
from sdplip.nn.orthogonal import AbstractFourierConv2d
from sdplip.nn.plain import PlainSandwich
from sdplip.nn.products import by_products
from sdplip.nn.residual import AbstractResidual
from sdplip.nn.sandwich_conv import AbstractSandwichConv2d
from sdplip.nn.shifts import adjoint, analysis

TOLERANCE = 1e-12
"""Relative error of the double-precision singular values that we compare with."""

SCALINGS = ("aol", "sll", "spectral", "multi_step")
MODES = ("zeros", "circular", "reflect", "replicate")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RESIDUAL = (ResidualConv1d, ResidualConv2d, ResidualConv3d)
JOINT = (
    PlainSandwich,
    LipKernel,
    BiLipschitz,
    GlobalL2Pool,
    LipNeXtBlock,
    LipShiFTBlock,
    DeepResidualLinear,
    EquilibriumLinear,
    Recurrent,
)
"""Layers whose Jacobians are taken at random inputs, as those of plain sequences are."""
EXPANDING = (BiLipschitz, nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose lower constant is compared too, where one is proven; that of plain sequences is."""
WEIGHTS = ("random", "equal", "one tap", "rank one", "trained")


@dataclass(frozen=True)
class Case:
    """One layer to measure: how to build it, and the image to run it on."""

    family: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    weights: str
    dtype: torch.dtype
    form: Callable[[nn.Module], nn.Module] = lambda layer: layer
    """What becomes of the layer once it has its weights."""


def cases() -> Iterator[Case]:
    """Every combination."""
    yield from dense_cases()
    yield from convolution_cases()
    yield from pooling_cases()
    yield from shift_cases()
    yield from joint_cases()
    yield from invertible_cases()


def dense_cases() -> Iterator[Case]:
    shapes = ((5, 30), (30, 5), (12, 12))
    for (n, m), weights, dtype in itertools.product(shapes, WEIGHTS, dtypes()):
        yield Case("Linear", lambda n=n, m=m: nn.Linear(n, m), (n,), weights, dtype)
        yield Case("Sandwich", lambda n=n, m=m: Sandwich(n, m), (n,), weights, dtype)
        if dtype in (torch.float32, torch.float64):  # torch orthogonalises in no other precision
            for method in ("exp", "cayley", "householder", "cholesky", "bro"):
                build = lambda n=n, m=m, k=method: orthogonal(nn.Linear(n, m), k)  # noqa: E731
                yield Case(f"orthogonal Linear, {method}", build, (n,), weights, dtype)
        for scaling in SCALINGS:
            yield Case(
                f"rescaled Linear, {scaling}", lambda n=n, m=m, s=scaling: rescaled(nn.Linear(n, m), s), (n,), weights, dtype
            )  # fmt: skip
            for h, L in ((1.0, 1.0), (0.5, 2.0), (-1.0, 1.5)):
                yield Case(
                    f"ResidualLinear, {scaling}",
                    lambda n=n, m=m, s=scaling, h=h, L=L: ResidualLinear(n, m, s, h=h, L=L),
                    (n,),
                    weights,
                    dtype,
                )


def convolution_cases() -> Iterator[Case]:
    """Kernel sizes 1 to 5, strides, dilations, groups, padding modes and amounts, odd and even images, 1 to 3 axes."""
    settings = itertools.product(
        (1, 2, 3), (1, 2, 3, 4, 5), (1, 2, 3), (1, 2), (1, 2), MODES, ("same", 0, "half", 3), ((7,), (6,))
    )
    for number, (axes, taps, stride, dilation, groups, mode, padding, size) in enumerate(settings):
        if (axes == 3 and (taps > 2 or stride > 2)) or (padding == "same" and stride > 1):
            continue
        image = size * axes if axes < 3 else (4, 3, 4)
        amount = dilation * (taps - 1) // 2 if padding == "half" else padding
        if amount == 0 and any(dilation * (taps - 1) >= h for h in image):
            continue
        weights, dtype = WEIGHTS[number % 5], dtypes()[number % 4]
        yield from _one_geometry(
            axes, taps, stride, dilation, groups, mode, amount, image, weights, dtype, number
        )


def _one_geometry(
    axes: int, taps: int, stride: int, dilation: int, groups: int, mode: str, padding: int | str,
    image: tuple[int, ...], weights: str, dtype: torch.dtype, number: int,
) -> Iterator[Case]:  # fmt: skip
    """The layers that one geometry can have."""
    channels = 2
    out = 2 * min(channels * taps**axes, 24)

    def plain() -> nn.Module:
        return CONVOLUTIONS[axes - 1](
            channels, out, taps, stride, padding, dilation, groups, padding_mode=mode
        )

    geometry = Geometry(stride, mode, None if padding == "same" else padding, dilation, groups)  # type: ignore[arg-type]
    scaling = SCALINGS[number % 4]
    yield Case(f"Conv{axes}d", plain, (channels, *image), weights, dtype)
    yield Case(f"orthogonal Conv{axes}d", lambda: orthogonal(plain()), (channels, *image), weights, dtype)
    yield Case(
        f"rescaled Conv{axes}d, {scaling}",
        lambda: rescaled(plain(), scaling),
        (channels, *image),
        weights,
        dtype,
    )
    yield Case(
        f"ResidualConv{axes}d, {scaling}",
        lambda: RESIDUAL[axes - 1](channels, out, taps, scaling, geometry=geometry),
        (channels, *image),
        weights,
        dtype,
    )
    if mode == "zeros" and padding != "same":

        def transposed() -> nn.Module:
            return TRANSPOSED[axes - 1](out, channels, taps, stride, padding, 0, groups, dilation=dilation)

        small = tuple(min(h, 4) for h in image)
        if min((h - 1) * stride - 2 * int(padding) + dilation * (taps - 1) for h in small) >= 0:
            yield Case(f"ConvTranspose{axes}d", transposed, (out, *small), weights, dtype)
            yield Case(
                f"orthogonal ConvTranspose{axes}d",
                lambda: orthogonal(transposed()),
                (out, *small),
                weights,
                dtype,
            )
            yield Case(
                f"rescaled ConvTranspose{axes}d",
                lambda: rescaled(transposed(), scaling),
                (out, *small),
                weights,
                dtype,
            )
    if axes == 2 and stride == dilation == groups == 1 and mode == "circular" and padding == "same" and dtype in (
        torch.float32, torch.float64,
    ):  # fmt: skip
        for kind, out_channels in itertools.product((CayleyConv2d, BROConv2d), (1, 2, 6)):
            build = lambda k=kind, c=out_channels: k(2, c, taps, image)  # noqa: E731
            yield Case(kind.__name__, build, (channels, *image), weights, dtype)
            for name, form in {"exported": vanilla, "by products": by_products}.items():
                yield Case(f"{kind.__name__}, {name}", build, (channels, *image), weights, dtype, form)
    if axes == 2 and dilation == groups == 1 and mode == "zeros" and padding == 0:
        for out_channels in (1, 8, 20):
            yield Case(
                "StridedResidualConv2d",
                lambda c=out_channels: StridedResidualConv2d(channels, c, out, taps, scaling, stride=stride),
                (channels, 2 * stride, 3 * stride),
                weights,
                dtype,
            )


def pooling_cases() -> Iterator[Case]:
    for taps, stride, padding, ceil in itertools.product((1, 2, 3, 4), (1, 2, 3), (0, 1), (False, True)):
        if padding > taps / 2:
            continue
        for size in (5, 6, 8):
            common = {"kernel_size": taps, "stride": stride, "padding": padding, "ceil_mode": ceil}
            for include, divisor in ((True, None), (False, None), (True, 1)):
                yield Case(
                    "AvgPool2d",
                    lambda c=common, i=include, d=divisor: nn.AvgPool2d(
                        **c, count_include_pad=i, divisor_override=d
                    ),
                    (1, size, size),
                    "none",
                    torch.float64,
                )
            yield Case(
                "MaxPool2d", lambda c=common: nn.MaxPool2d(**c), (1, size, size), "none", torch.float64
            )


def shift_cases() -> Iterator[Case]:
    """Shifts with their blocks on images down to one pixel; constants that depend on weights in double precision alone."""
    for channels, each, image, weights in itertools.product(
        (4, 9), (0, 1, 2), ((1, 1), (2, 3), (4, 4)), WEIGHTS
    ):
        if 4 * each > channels:
            continue
        shape = (channels, *image)
        for mode in ("circular", "zeros"):
            build = lambda c=channels, e=each, m=mode: Shift2d(c, e, m)  # noqa: E731
            yield Case("Shift2d", build, shape, "none", torch.float64)
        for dtype in dtypes():
            build = lambda c=channels, e=each, i=image: LipNeXtBlock(c, i, e)  # noqa: E731
            yield Case("LipNeXtBlock", build, shape, weights, dtype)
        yield Case("BatchLipNorm", lambda c=channels: statistics(c), shape, "random", torch.float64)
        yield Case("ActNorm", lambda c=channels: ActNorm(c, 3.0), shape, "random", torch.float64)
        yield Case("CenterNorm", lambda c=channels: CenterNorm(c), shape, "none", torch.float64)
        yield Case("GlobalL2Pool", GlobalL2Pool, shape, "none", torch.float64)
        if channels % 2 == 0:
            build = lambda c=channels, e=each: LipShiFTBlock(c, e, start=1.0)  # noqa: E731
            yield Case("LipShiFTBlock", build, shape, weights, torch.float64)


def statistics(channels: int) -> BatchLipNorm:
    """A normalisation that has seen a batch whose channels have very different variances."""
    layer = BatchLipNorm(channels, 3.0, momentum=1.0)
    layer(torch.randn(8, channels) * torch.logspace(-3, 0.5, channels))
    return layer


def joint_cases() -> Iterator[Case]:
    """Residual layers with several inner layers, and recurrent layers over sequences of several lengths."""
    for weights, dtype in itertools.product(WEIGHTS, (torch.float32, torch.float64)):
        for n, hidden in ((1, (1,)), (4, (9,)), (9, (4, 6)), (5, (7, 3, 8))):
            for h, L in ((0.5, 1.0), (-0.25, 2.0)):
                build = lambda n=n, m=hidden, h=h, L=L: DeepResidualLinear(n, m, h=h, L=L)  # noqa: E731
                yield Case("DeepResidualLinear", build, (n,), weights, dtype)
        for (n, m, k), activation, L in itertools.product(
            ((1, 1, 1), (4, 9, 3), (6, 3, 8)), (nn.ReLU(), nn.Tanh()), (1.0, 3.0)
        ):
            build = functools.partial(EquilibriumLinear, n, m, k, activation, L=L, tolerance=1e12)
            yield Case("EquilibriumLinear", build, (n,), weights, dtype)
        for (n, m), time, every in itertools.product(((1, 2), (3, 8), (6, 2)), (1, 2, 6), (False, True)):
            build = lambda n=n, m=m, a=every: Recurrent(n, m, all_states=a, decay=1.0 if m > 2 else 0.75)  # noqa: E731
            yield Case("Recurrent", build, (time, n), weights, dtype)
    yield from sandwich_cases()


def sandwich_cases() -> Iterator[Case]:
    """Sandwich layers of images, and their plain forms."""
    for weights, dtype, taps, stride, constant in itertools.product(
        WEIGHTS, dtypes()[:2], (1, 2, 4), (1, 2), (1.0, 3.0)
    ):
        if taps % stride == 0:
            for axes in (1, 2):
                build = lambda a=axes, k=taps, s=stride, c=constant: lipkernel(a, k, s, c)  # noqa: E731
                yield Case(f"LipKernel, {axes} axes", build, (2, *(4,) * axes), weights, dtype)
    images = ((4, 4), (5, 3), (6, 4))
    settings = itertools.product(WEIGHTS, dtypes(), images, (1, 2, 3), (1, 5), (1, 2))
    for weights, dtype, image, taps, out, stride in settings:
        if any(h % stride or h // stride < taps for h in image):
            continue
        shape = (2, *image)
        circular = lambda c=out, k=taps, i=image, s=stride: SandwichConv2d(2, c, k, i, stride=s)  # noqa: E731
        compact = lambda c=out, k=taps, s=stride: CompactSandwichConv2d(2, c, k, stride=s)  # noqa: E731
        for name, build in {"SandwichConv2d": circular, "CompactSandwichConv2d": compact}.items():
            if taps % 2 == 0 and build is compact:
                continue
            yield Case(name, build, shape, weights, dtype)
            if stride == 1 and dtype in (torch.float32, torch.float64):
                yield Case(f"{name}, exported", build, shape, weights, dtype, vanilla)
                if build is circular:
                    yield Case(f"{name}, by products", build, shape, weights, dtype, by_products)


def lipkernel(axes: int, taps: int, stride: int, constant: float) -> LipKernel:
    """Two convolutions and two dense layers."""
    conv = (LipKernelConv1d, LipKernelConv2d)[axes - 1]
    first = conv(2, 3, taps, stride, taps // 2)
    side = (4 + 2 * (taps // 2) - taps) // stride + 1
    layers = [first, conv(3, 4, 1), nn.Flatten(), LipKernelLinear(4 * side**axes, 5), LipKernelLinear(5, 3)]
    return LipKernel(layers, (2, *(4,) * axes), bound=constant)


def invertible_cases() -> Iterator[Case]:
    """Bi-Lipschitz layers around 1-Lipschitz modules of several kinds, and flows of several layers."""
    for weights, dtype, (mu, nu) in itertools.product(WEIGHTS, dtypes()[:2], ((0.5, 1.5), (0.02, 7.0))):
        inner: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
            "sll": (lambda: ResidualLinear(6, 11), (6,)),
            "sandwich": (lambda: Sandwich(5, 5), (5,)),
            "deep": (lambda: DeepResidualLinear(4, [7, 3]), (4,)),
            "conv": (lambda: ResidualConv2d(2, 5, 3), (2, 4, 5)),
            "orthogonal": (
                lambda: nn.Sequential(
                    orthogonal(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")), MaxMin()
                ),
                (4, 4, 4),
            ),
        }
        for name, (f, shape) in inner.items():
            build = lambda f=f, m=mu, n=nu: BiLipschitz(f(), m, n)  # noqa: E731
            yield Case(f"BiLipschitz, {name}", build, shape, weights, dtype)
        flow = lambda m=mu, n=nu: nn.Sequential(  # noqa: E731
            BiLipschitz(ResidualLinear(4, 7), m, n), orthogonal(nn.Linear(4, 4), "cayley"), nn.LeakyReLU(0.3)
        )
        yield Case("BiLipschitz, flow", flow, (4,), weights, dtype)


def dtypes() -> tuple[torch.dtype, ...]:
    return (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def set_weights(layer: nn.Module, case: Case, seed: int) -> None:
    """Fill the free parameters of a layer."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        if parameter.ndim < 2:
            continue
        new = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if case.weights == "equal":
            new = torch.ones_like(new)
        elif case.weights == "one tap" and new.ndim > 2:
            new.flatten(2)[:, :, 1:] = 0
        elif case.weights == "rank one":
            new = new[:, :1] * new[:1]
        with torch.no_grad():
            parameter.copy_(new)
    if case.weights == "trained":
        ascend(layer, case.shape)


def ascend(layer: nn.Module, shape: tuple[int, ...], steps: int = 6) -> None:
    """Steps of gradient ascent on the length of outputs, through T: an adversary who chooses the weights."""
    parameters = [p for p in layer.parameters() if p.ndim >= 2]
    optimiser = torch.optim.Adam(parameters, lr=0.1)
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)).to(parameters[0].dtype)
    for _ in range(steps):
        optimiser.zero_grad()
        y = layer(x).double()
        (-(y * y).mean()).backward()
        optimiser.step()


def as_run(layer: nn.Module, active: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The layer in double precision with the numbers that run; every hidden unit has the slope of `active` (1 if None)."""

    def masked(v: Tensor) -> Tensor:
        return v if active is None else v * active[: v.shape[1]].reshape(-1, *(1,) * (v.ndim - 2))

    if isinstance(layer, AbstractResidual):
        weight, step = layer.weight.double(), layer.step().double()
        if isinstance(layer, ResidualLinear):
            return lambda x: layer.h * x - (masked(x @ weight.mT) * step) @ weight
        shifts = layer.shifts  # type: ignore[attr-defined]
        step = step.reshape(-1, *(1,) * layer.axes)
        return lambda x: (
            layer.h * x
            - adjoint(masked(analysis(x, weight, None, shifts)) * step, weight, tuple(x.shape[2:]), shifts)
        )
    if isinstance(layer, StridedResidualConv2d):
        parts = [as_run(part, active) for part in layer]
        return lambda x: functools.reduce(lambda y, part: part(y), parts, x)
    if isinstance(layer, Sandwich):
        A, B = layer.factors().double().split([layer.out_features, layer.in_features], -1)
        psi, dtype = layer.log_psi.to(precision(layer.log_psi)).exp(), layer.weight.dtype
        before, after = (2**0.5 / psi).to(dtype).double(), (2**0.5 / layer.beta * psi).to(dtype).double()
        return lambda x: (masked(x @ B.mT * before) * after) @ A
    if isinstance(layer, AbstractSandwichConv2d):
        return sandwich_as_run(layer, masked)
    if isinstance(layer, AbstractFourierConv2d):
        Q, size = layer.symbol().to(torch.complex128), layer.image_size
        return lambda x: torch.fft.irfft2(
            (Q @ torch.fft.rfft2(x).movedim(1, -1)[..., None])[..., 0].movedim(-1, 1), size
        )
    plain = vanilla(layer).double()
    return plain.forward


def sandwich_as_run(
    layer: AbstractSandwichConv2d, masked: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """A sandwich layer of images with the numbers that run, in double precision."""
    before, after = (d.double()[:, None, None] for d in layer.diagonals())
    if isinstance(layer, SandwichConv2d):
        A, B = layer.symbol().to(torch.complex128).split([layer.out_channels, layer.channels], -2)
        up, down = (lambda x: fourier.convolved(x, B.mH)), (lambda z: fourier.convolved(z, A))
    else:
        assert isinstance(layer, CompactSandwichConv2d)
        A, B = layer.pair.weight.double().split([layer.out_channels, layer.channels], 1)
        around = layer.kernel_size[0] // 2, layer.kernel_size[1] // 2
        up = functools.partial(nn.functional.conv2d, weight=B, padding=around)
        down = functools.partial(nn.functional.conv_transpose2d, weight=A, padding=around)
    patches = functools.partial(nn.functional.pixel_unshuffle, downscale_factor=layer.stride)
    return lambda x: down(masked(up(patches(x)) * before) * after)


def vanilla(layer: nn.Module) -> nn.Module:
    """A copy with the effective weight as an ordinary parameter."""
    return _plain(copy.deepcopy(layer))


@torch.no_grad()
def matrix(f: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """The dense matrix of an affine map on one sample, column by column."""
    n = math.prod(shape)
    return (
        f(torch.eye(n, dtype=torch.float64).reshape(n, *shape))
        - f(torch.zeros(1, *shape, dtype=torch.float64))
    ).reshape(n, -1)


def extremes(layer: nn.Module, case: Case) -> tuple[float, float]:
    """Largest and least singular value of the Jacobians that the layer can have; all of a linear one, some of the others."""
    found = [(J, torch.linalg.svdvals(J)) for J in jacobians(layer, case)]
    least = [float(s[-1]) if J.shape[0] >= J.shape[1] else 0.0 for J, s in found]
    return max(float(s[0]) for _, s in found), min(least)


def jacobians(layer: nn.Module, case: Case) -> list[Tensor]:
    """Some Jacobians of the layer, of shape (outputs, inputs)."""
    draw = lambda n: torch.randn(  # noqa: E731
        n, 1, *case.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    if isinstance(layer, JOINT) or type(layer) is nn.Sequential:
        layer = (
            copy.deepcopy(layer) if isinstance(layer, EquilibriumLinear) else vanilla(layer)
        )  # has no plain form
        layer = layer.double()
        return [_jacobian(layer, image) for image in draw(4)]
    if isinstance(layer, nn.MaxPool2d):
        x = draw(20)
        x[0] = torch.arange(x[0].numel(), dtype=x.dtype).reshape(x[0].shape)
        x[1, ..., ::2, ::2] += 9  # one pixel wins in all of its windows
        x[2, ..., 2, 2] += 9
        return [_jacobian(layer, image) for image in x]
    masks: list[Tensor | None] = [None]
    if isinstance(layer, AbstractResidual | Sandwich | AbstractSandwichConv2d | StridedResidualConv2d):
        masks.append(torch.randint(0, 2, (999,), generator=torch.Generator().manual_seed(1)).double())
    return [matrix(as_run(layer, mask), case.shape).mT for mask in masks]


def _jacobian(layer: nn.Module, image: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(layer, image).reshape(-1, image.numel())  # pyright: ignore[reportAttributeAccessIssue]


@dataclass
class Row:
    """What a family of layers came to."""

    accepted: int = 0
    refused: int = 0
    violations: int = 0
    worst: float = 0.0
    tightest: float = 0.0
    every_size: int = 0
    lower: int = 0


def measure(case: Case, row: Row, reasons: Counter, seed: int, every_size: bool) -> None:
    """Build, prove, compare."""
    torch.manual_seed(seed)
    try:
        layer = case.build()
        set_weights(layer, case, seed)
        layer = case.form(layer.to(case.dtype).eval())
        bounds = [lipschitz(layer, input_shape=case.shape).value]
        if every_size and not isinstance(layer, Recurrent):  # its constant grows with the steps
            bounds.append(lipschitz(layer).value)
    except (SdplipError, RuntimeError) as error:  # torch's own: reflection of more pixels than there are
        row.refused += 1
        reasons[reason(error)] += 1
        return
    truth, least = extremes(layer, case)
    lower = proven_lower(layer, case)
    row.accepted += 1
    row.lower += lower is not None
    if lower is not None and not least >= lower * (1 - TOLERANCE) - 1e-14 * truth:
        row.violations += 1
        print(f"VIOLATION {case.family} {case.shape} {case.weights} {case.dtype} {layer}: {least} < {lower}")
    row.every_size += len(bounds) - 1
    row.worst = max(row.worst, truth)
    row.tightest = max(row.tightest, *(truth / bound if bound else float(truth > 0) for bound in bounds))
    for bound in bounds:
        if not truth <= bound * (1 + TOLERANCE):
            row.violations += 1
            print(
                f"VIOLATION {case.family} {case.shape} {case.weights} {case.dtype} {layer}: {truth} > {bound}"
            )


def proven_lower(layer: nn.Module, case: Case) -> float | None:
    """The lower constant, None where none is proven."""
    if not isinstance(layer, EXPANDING) and type(layer) is not nn.Sequential:
        return None
    try:
        return lower_lipschitz(layer, input_shape=case.shape).value
    except (SdplipError, RuntimeError):
        return None


def reason(error: Exception) -> str:
    """The first sentence of a refusal without its numbers, so that equal reasons count together."""
    text = re.sub(r"^`\w+` is refused: ", "", str(error)).split(". ")[0].split(":")[0]
    return re.sub(r"-?\d+(\.\d+)?", "n", text)


def ours(every: int, only: list[str]) -> tuple[dict[str, Row], Counter]:
    """The sweep over our layers and torch's."""
    rows: dict[str, Row] = defaultdict(Row)
    reasons: Counter = Counter()
    draw = random.Random(0)
    for number, case in enumerate(cases()):
        if only and not any(name in case.family for name in only):
            continue
        if draw.randrange(every) == 0:
            # "every size" costs a grid of 4096 frequencies for two axes, so one combination in five has to do
            measure(case, rows[case.family], reasons, number, every_size=draw.randrange(5) == 0)
    return rows, reasons


def others() -> Iterator[tuple[str, float | None, str]]:
    """(layer, its norm or None where it is refused, what we say to the same) for deel-torchlip and orthogonium; they claim 1."""
    convolutions = ("zeros", "circular", "reflect", "replicate")
    for package, path, name, channels in (
        ("deel", "deel.torchlip", "SpectralConv2d", (1, 32)),
        ("orthogonium", "orthogonium.layers", "AdaptiveOrthoConv2d", (8, 16)),
    ):
        if importlib.util.find_spec(package) is None:
            continue
        make = getattr(importlib.import_module(path), name)
        for taps, stride, dilation, mode in itertools.product((3, 5), (1, 2), (1, 2), convolutions):
            arguments = {
                "stride": stride, "dilation": dilation, "padding": taps // 2 * dilation, "padding_mode": mode
            }  # fmt: skip
            yield (
                f"{path}.{name}, {taps} x {taps}, stride {stride}, dilation {dilation}, {mode}",
                rival_norm(
                    lambda m=make, c=channels, k=taps, a=arguments: m(*c, k, **a), (channels[0], 8, 8)
                ),
                verdict(
                    lambda c=channels, k=taps, a=arguments: rescaled(nn.Conv2d(*c, k, **a)),
                    (channels[0], 8, 8),
                ),
            )
    if importlib.util.find_spec("deel") is None:
        return
    pool = importlib.import_module("deel.torchlip").ScaledAvgPool2d
    for size, side, options in ((2, 4, {}), (3, 4, {"ceil_mode": True}), (2, 4, {"divisor_override": 1})):
        yield (
            f"deel.torchlip.ScaledAvgPool2d({size}{''.join(f', {k}={v}' for k, v in options.items())})",
            rival_norm(lambda k=size, o=options: pool(k, **o), (1, side, side)),
            verdict(lambda k=size, o=options: nn.AvgPool2d(k, **o), (1, side, side)),
        )


def rival_norm(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> float | None:
    """Norm of a layer of another library with its default weights, run in single precision; None if it refuses to be built."""
    torch.manual_seed(0)
    try:
        layer = build().eval()
    except (ValueError, NotImplementedError):
        return None
    return float(torch.linalg.matrix_norm(matrix(lambda x: layer(x.float()).double(), shape), 2))


def verdict(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> str:
    """Our proven bound of the same configuration, or that it is refused."""
    torch.manual_seed(0)
    try:
        return f"{lipschitz(build().eval(), input_shape=shape).value:.7f}"
    except SdplipError:
        return "refused"


def rivals_table() -> str:
    """Markdown, with one row for each violation and one that counts the rest."""
    lines = ["| layer that claims 1 | its norm | ours |", "|---|--:|--:|"]
    counts: Counter = Counter()
    for label, value, ours_say in others():
        kind = label.split(",")[0].split("(")[0]
        violated = value is not None and value > 1 + 1e-5
        counts[kind, "refused" if value is None else "violations" if violated else "within 1 + 1e-5"] += 1
        if violated:
            lines.append(f"| {label} | {value:.4f} | {ours_say} |")
    if not counts:
        return "deel-torchlip and orthogonium are not installed."
    return "\n".join([*lines, "", *(f"- {kind}: {n} {what}" for (kind, what), n in counts.items())])


def table(rows: dict[str, Row]) -> str:
    """Markdown."""
    lines = [
        "| layer | accepted | of these also every size | refused | violations | largest norm | largest norm / bound |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    total = Row()
    for name, row in sorted(rows.items()):
        numbers = f"{row.accepted} | {row.every_size} | {row.refused} | {row.violations}"
        lines.append(f"| {name} | {numbers} | {row.worst:.7g} | {row.tightest:.9f} |")
        total.accepted += row.accepted
        total.every_size += row.every_size
        total.refused += row.refused
        total.violations += row.violations
        total.lower += row.lower
    lines.append(
        f"| all | {total.accepted} | {total.every_size} | {total.refused} | {total.violations} | | |"
    )
    compared = f"Lower constants compared with the least singular value: {total.lower} (violations are counted above)."
    return "\n".join([*lines, "", compared])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="take one combination in n (default: all)")
    parser.add_argument("--only", nargs="*", default=[], help="families whose names contain one of these")
    parser.add_argument(
        "--others", action="store_true", help="only deel-torchlip and orthogonium, side by side"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Using padding='same'")
    if options.others:
        print(rivals_table())
        return
    rows, reasons = ours(options.every, options.only)
    print(table(rows), "\n")
    print("Refused, and why:\n")
    for text, count in reasons.most_common():
        print(f"- {count}: {text}")
    print("\n" + rivals_table())
    if any(row.violations for row in rows.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
