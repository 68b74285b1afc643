"""Rules of sandwich layers: of images, and of the plain forms of all of them. Two weights are proven together, never one by one."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from sdplip.arithmetic.rounding import GENEROUS, UNIT, up
from sdplip.kernel.condition import Certificate
from sdplip.nn.bounds.affine import conv_geometry
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.factored import joined, largest
from sdplip.nn.bounds.tree import Bound, best, product_above, shown
from sdplip.nn.bounds.weights import STALE, certify_kernel, convolution_bound, effective, exact, same
from sdplip.nn.circular import CircularConv2d
from sdplip.nn.plain import PlainSandwich, reversed_kernel
from sdplip.nn.products import CayleyConv2dProducts
from sdplip.nn.sandwich_conv import AbstractSandwichConv2d, CompactSandwichConv2d, SandwichConv2d
from sdplip.nn.slopes import monotone_slope
from sdplip.proposals import certify

Vector = Float[np.ndarray, " hidden"]


@lipschitz.register(SandwichConv2d)
def _(module: SandwichConv2d, context: Context) -> Bound:
    r"""The norm of $(A(\omega)\ B(\omega))$ at every frequency."""
    Q = module.symbol().detach().resolve_conj()
    with torch.no_grad():
        if not same(torch.view_as_real(Q), torch.view_as_real(module.now(module.weight))):
            raise context.refuse(module, STALE)
    X, Y = (exact(part, module, "weight", context) for part in (Q.real, Q.imag))
    symbol = zip(X.reshape(-1, *X.shape[2:]), Y.reshape(-1, *Y.shape[2:]), strict=True)
    return _with_diagonals(
        module, largest((np.block([[x, -y], [y, x]]) for x, y in symbol), module.grid), context
    )


@lipschitz.register(CompactSandwichConv2d)
def _(module: CompactSandwichConv2d, context: Context) -> Bound:
    r"""The norm of the convolution by $(A\ B)$ on images of every size, or on patches of the given one."""
    context.check(module.pair, "pair", nn.Conv2d)
    size = None if context.input_shape is None else tuple(h // module.stride for h in context.input_shape[1:])
    kernel = effective(module.pair, "weight", context)
    return _with_diagonals(
        module, convolution_bound(kernel, conv_geometry(module.pair, size), "the kernel (A B)"), context
    )


def _with_diagonals(module: AbstractSandwichConv2d, factors: Bound, context: Context) -> Bound:
    """See Note [sandwich as run]: the diagonals are the same at every pixel."""
    monotone_slope(module.activation)
    beta = context.bound(module.activation, "activation").value
    with torch.no_grad():
        before, after = (exact(d.detach(), module, "log_psi", context) for d in module.diagonals())
    return joined(module, factors, (before, after), beta, context)


# Note [two weights together]. x -> G s(F x + b) with slopes of s in [0, beta] is c^2-Lipschitz if G'G + N F F' N <= c^2 2 N / beta
# for a diagonal N > 0: the condition of one hidden layer for the multipliers c^2 N and the bound c^2, divided by c^2. With
# one number of N a channel:
#   convolutions: at every frequency. F F' does not change where F is shifted, so it does not matter at which pixel a kernel begins;
#     zeros around an image cut blocks out of infinite convolutions, and the inequality with them.
#   products: F = B' M B with a matrix M a frequency and |B| <= b has F F' <= b^2 B' M M' B and likewise G; N commutes with B, so with the
#     inequality for the matrices the left side is at most b^2 c^2 B' (2 N / beta) B <= b^4 c^2 2 N / beta.


@lipschitz.register(PlainSandwich)
def _(module: PlainSandwich, context: Context) -> Bound:
    """See Note [two weights together]."""
    monotone_slope(module.activation)
    beta = context.bound(module.activation, "activation").value
    N = effective(module, "multipliers", context)
    if not (N > 0).all():
        raise context.refuse(module, "its `multipliers` must be positive. Use `export_plain` again.")
    kinds = {lipschitz.registered(part) for part in (module.up, module.down)}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is nn.Linear:
        context.check(module.up, "up", nn.Linear)
        context.check(module.down, "down", nn.Linear)
        F, G = effective(module.up, "weight", context), effective(module.down, "weight", context)
        _check_units(module, F.shape[0], G.shape[1], N, context)
        return _together(*_joint(F, G, N, beta))
    if kind in (nn.Conv2d, CircularConv2d):
        return _convolutions(module, N, beta, context)
    if kind is CayleyConv2dProducts:
        return _products(module, N, beta, context)
    raise context.refuse(
        module, "`up` and `down` must be two linear layers, two convolutions or two products. Export again."
    )


def _convolutions(module: PlainSandwich, N: Vector, beta: float, context: Context) -> Bound:
    first, second = module.up, module.down
    assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
    for part, name in ((first, "up"), (second, "down")):
        context.check(part, name, nn.Conv2d, CircularConv2d)
        wraps = part.padding_mode != "zeros" and not isinstance(part, CircularConv2d)
        if wraps or {*part.stride, *part.dilation, part.groups} != {1}:
            raise context.refuse(
                module,
                f"`{name}` must be a convolution without stride, dilation, groups, and with zero padding.",
            )
    F, G = effective(first, "weight", context), effective(second, "weight", context)
    _check_units(module, F.shape[0], G.shape[1], N, context)
    back = reversed_kernel(torch.from_numpy(F), 1).numpy() * N[:, None, None]
    if F.shape[2:] != G.shape[2:]:
        raise context.refuse(module, "`up` and `down` must have kernels of one size. Export again.")
    size = None if context.input_shape is None else context.input_shape[1:]
    if isinstance(first, CircularConv2d):
        size = tuple(first.kernel_size)
    geometry = conv_geometry(first, size)
    t = np.nextafter(2 * N / beta, 0)
    certificate = certify_kernel(np.concatenate([G, back]), t, geometry)
    weighed = back / np.sqrt(t)[:, None, None]
    rounding = 2 * UNIT * float(np.linalg.norm(weighed)) * back[0, 0].size ** 0.5 * GENEROUS
    return _together(certificate, rounding)


def _products(module: PlainSandwich, N: Vector, beta: float, context: Context) -> Bound:
    first, second = module.up, module.down
    parts = tuple(context.bound(part, name) for part, name in ((first, "up"), (second, "down")))
    context.check(first, "up", CayleyConv2dProducts)
    context.check(second, "down", CayleyConv2dProducts)
    assert isinstance(first, CayleyConv2dProducts) and isinstance(second, CayleyConv2dProducts)
    if not torch.equal(first.waves, second.waves):
        raise context.refuse(module, "`up` and `down` must have the same `waves`. Build the products again.")
    F, G = (effective(part, "matrices", context).swapaxes(1, 2) for part in (first, second))
    _check_units(module, F.shape[1] // 2, G.shape[2] // 2, N, context)
    found = worst(_joint(f, g, np.tile(N, 2), beta) for f, g in zip(F, G, strict=True))
    waves = parts[0].parts[0].value
    c = product_above((waves, waves, up(found[0].c + found[1])))
    joint = Bound(
        product_above((c, c)),
        f"c^2 with c = {shown(c)} proven for both layers together",
        certificate=found[0],
    )
    middle = context.bound(module.activation, "activation")
    apart = product_above(tuple(b.value for b in (*parts, middle)))
    return best(joint, Bound(apart, "product of the two layers", parts=(parts[0], middle, parts[1])))


def _joint(
    F: Float[np.ndarray, "n m"], G: Float[np.ndarray, "k n"], N: Vector, beta: float
) -> tuple[Certificate, float]:
    """The certificate, and what rounding of the products in F' N adds to its c."""
    t = np.nextafter(2 * N / beta, 0)
    certificate = certify(np.concatenate([G, F.T * N]), t, scaling="exported multipliers")
    return certificate, 2 * UNIT * float(np.linalg.norm(F.T * N / np.sqrt(t))) * GENEROUS


def _together(certificate: Certificate, rounding: float) -> Bound:
    c = up(certificate.c + rounding)
    reason = f"c^2 with c = {shown(c)} proven for both weights together"
    return Bound(product_above((c, c)), reason, certificate=certificate)


def worst(found: Iterable[tuple[Certificate, float]]) -> tuple[Certificate, float]:
    """The certificate with the largest c, and the largest rounding of any."""
    certificates, roundings = zip(*found, strict=True)
    return max(certificates, key=lambda one: one.c), max(roundings)


def _check_units(module: PlainSandwich, above: int, below: int, N: Vector, context: Context) -> None:
    if not above == below == len(N):
        raise context.refuse(
            module,
            f"`up` has {above} units, `down` reads {below}, and there are {len(N)} multipliers. Export again.",
        )
