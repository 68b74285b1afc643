r"""Bounds of convolutional networks too large for dense matrices: a trunk of stride 1 frequency by frequency, then a dense tail.

`certificates.trunk` proves. Multipliers, one a channel, are proposed by the spectral closed form, and by LipSDP on a few
frequencies, whose block-diagonal matrices are a network of their own; the shape of its solution is rescaled for all frequencies.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product as grid

import numpy as np

from sdplip.bounds.lower import estimate_lower
from sdplip.bounds.result import NetworkBound
from sdplip.certificates.convolution import certify_convolution
from sdplip.certificates.network import certify_product, spectral_norm_above
from sdplip.certificates.rounding import up
from sdplip.certificates.trunk import Trunk, certify_trunk, representatives, symbol
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.networks import Activation, Chain, Convolution, Network
from sdplip.networks.chain import runs_of
from sdplip.networks.linear import fits, merged
from sdplip.networks.network import Linear
from sdplip.solvers.solution import Status

COARSE_ORDER = 480
"""Neurons of the network of a few frequencies that LipSDP solves."""
HEAD = 256
"""Rows of the matrix behind the trunk up to which its gain is computed."""


def is_dense(network: Network) -> bool:
    """Whether the dense matrices of this network, a chain, may be formed."""
    return all(map(fits, runs_of(network)[0]))


def bound_images(network: Network, method: str, extra: float = 0.0) -> NetworkBound:
    """The bound by "frequency", "product" or "auto", the least of both; `extra` is added.

    Raises:
        InvalidProblem: another method, or a network without a trunk of convolutions of stride 1.
        NotProvable: nothing could be proven.
    """
    begin = time.perf_counter()
    if method not in ("auto", "product", "frequency"):
        raise InvalidProblem(
            f"The method {method!r} needs the dense matrices of this network, which are too large. Use 'auto', 'frequency' or"
            " 'product'."
        )
    runs, activations = runs_of(network)
    found, tail = dict[str, float](), Chain((np.eye(1),), ())
    if method != "frequency":
        found["product"] = product_of_layers(runs, activations)
    if method != "product":
        split = split_trunk(runs, activations)
        if split is None and method == "frequency":
            raise InvalidProblem(
                "The method 'frequency' needs convolutions of stride 1 without groups, each followed by an activation of slopes"
                f" between 0 and a bound, and behind them at most {HEAD} outputs of one layer. Use 'auto' or 'product'."
            )
        if split is not None:
            value, name, tail = _bounded(split)
            found[name] = value
    best = min(found, key=lambda name: found[name])
    if not np.isfinite(found[best]):
        raise NotProvable(
            "No finite bound could be proven for this network. Rescale its kernels by powers of two."
        )
    value = up(found[best] + extra) if extra else found[best]
    order = sum(run[-1].outputs for run in runs[:-1])
    lower = min(estimate_lower(network), value)
    seconds = time.perf_counter() - begin
    return NetworkBound(value, lower, None, best, Status.OPTIMAL, None, None, order, seconds, 0, found, tail)


def product_of_layers(runs: list[list[Linear]], activations: list[Activation]) -> float:
    """Product of proven norms: of kernels frequency by frequency, of other layers as dense matrices."""
    bound = 1.0
    for layer in (layer for run in runs for layer in run):
        if isinstance(layer, Convolution):
            t = np.ones(layer.channels)
            norm = certify_convolution(layer.K, t, layer.geometry).c if layer.K.any() else 0.0
        else:
            piece = merged([layer])
            norm = up(spectral_norm_above(piece.W) + piece.error)
        bound = up(bound * norm)
    for activation in activations:
        bound = up(bound * float(np.maximum(abs(activation.alpha), abs(activation.beta)).max()))
    return bound


@dataclass(frozen=True, eq=False)
class Split:
    """A trunk, and the chain behind it whose first matrix is the head; `slack` is what merging the head rounded off."""

    trunk: Trunk
    tail: Chain
    slack: float


def split_trunk(runs: list[list[Linear]], activations: list[Activation]) -> Split | None:
    """The longest trunk of a network; None where there is none, or what stands behind it is too large."""
    layers = list[Convolution]()
    for run, activation in zip(runs, activations, strict=False):
        layer = run[0]
        if not (isinstance(layer, Convolution) and len(run) == 1 and _stationary(layer, layers)):
            break
        if np.min(activation.alpha) < 0:
            break
        layers.append(layer)
    if not layers:
        return None
    k = len(layers)
    behind = runs[k]
    last = behind[0] if len(behind) == 1 else None
    tail_slopes = [
        (np.zeros(run[-1].outputs) + a.alpha, np.zeros(run[-1].outputs) + a.beta)
        for run, a in zip(runs[k:], activations[k:], strict=False)
    ]
    slopes = tuple(float(np.max(a.beta)) for a in activations[:k])
    ends = isinstance(last, Convolution) and k == len(runs) - 1 and _stationary(last, layers)
    every = [*layers, last] if ends else layers
    torus = tuple(
        max(max(_reads(layer, axis) for layer in every), layers[-1].output_size[axis])
        for axis in range(len(layers[0].image_size))
    )
    kernels = tuple(np.asarray(layer.K, np.float64) for layer in layers)
    dilations = tuple(_tuple(layer.geometry.dilation) for layer in layers)
    if ends:
        assert isinstance(last, Convolution)
        end = np.asarray(last.K, np.float64), _tuple(last.geometry.dilation)
        return Split(Trunk(kernels, dilations, slopes, torus, last=end), Chain((np.eye(1),), ()), 0.0)
    if behind[-1].outputs > HEAD or not all(map(fits, runs[k:])):
        return None
    pieces = [merged(run) for run in runs[k:]]
    head = pieces[0].W.reshape(len(pieces[0].W), len(kernels[-1]), *layers[-1].output_size)
    before = product_of_layers(runs[:k], activations[:k])
    weights = tuple(piece.W for piece in pieces)
    tail = Chain(weights, tuple(tail_slopes), tuple(piece.error for piece in pieces))
    return Split(Trunk(kernels, dilations, slopes, torus, head=head), tail, up(before * tail.remainder()))


def _stationary(layer: Convolution, before: list[Convolution]) -> bool:
    """Whether the layer may join the trunk: stride 1, one group, and padded like those before."""
    if layer.geometry.groups != 1 or set(_tuple(layer.geometry.stride)) != {1} or not layer.K.any():
        return False
    if layer.circular:
        return all(b.circular and b.image_size == layer.image_size for b in before) and (
            layer.output_size == layer.image_size
        )
    return not any(b.circular for b in before)


def _reads(layer: Convolution, axis: int) -> int:
    """Pixels of the image with the padding that the layer reads on the worse side; of circular layers the image."""
    h, out = layer.image_size[axis], layer.output_size[axis]
    if layer.circular:
        return h
    first = layer.before[axis]
    return max(h + max(first, out + layer.reach[axis] - first - h), out)


def _bounded(split: Split) -> tuple[float, str, Chain]:
    best = np.inf, "frequency", split.tail
    for name, multipliers in _proposals(split.trunk):
        R = certify_trunk(split.trunk, multipliers)
        if R is None:
            continue
        if split.trunk.head is None:
            value, tail = float(R[0, 0]), Chain((R,), ())
        else:
            value, tail = _tail_bound(R, split)
        if value < best[0]:
            best = value, name, tail
    return best


def _tail_bound(R: np.ndarray, split: Split) -> tuple[float, Chain]:
    """The bound of the chain whose first matrix is `R`: its norm, or the best of the methods for dense networks."""
    from sdplip.bounds.auto import bound_chain

    tail = Chain((R, *split.tail.weights[1:]), split.tail.slopes)
    value = certify_product(tail.weights) if len(tail.weights) == 1 else bound_chain(tail)
    return (up(value + split.slack) if split.slack else value), tail


def _proposals(trunk: Trunk) -> Iterator[tuple[str, list[np.ndarray]]]:
    points, _ = representatives(trunk.torus)
    symbols = _symbols(trunk, points)
    flat = [np.ones(len(K)) for K in trunk.kernels]
    yield "frequency-spectral", _rescaled(symbols, trunk.slopes, flat)
    shape = _coarse(trunk)
    if shape is not None:
        for room in (1.0, 0.5):
            yield "frequency-lipsdp", _rescaled(symbols, trunk.slopes, shape, room)


def _symbols(trunk: Trunk, points: np.ndarray) -> list[np.ndarray]:
    pairs = (
        symbol(K, d, trunk.torus, points)[0] for K, d in zip(trunk.kernels, trunk.dilations, strict=True)
    )
    return [U + 1j * V for U, V in pairs]


def _rescaled(
    symbols: list[np.ndarray], slopes: tuple[float, ...], shape: list[np.ndarray], room: float = 0.0
) -> list[np.ndarray]:
    r"""Multipliers of the given shape, each layer times one factor.

    The best factor for a layer alone is half of the largest feasible one; with `room` the shape keeps its own size up to that
    share of the way from there to the largest.
    """
    L, found = None, []
    for M, beta, s in zip(symbols, slopes, shape, strict=True):
        Y = M.conj().mT if L is None else np.linalg.solve(L, M.conj().mT)
        Y = Y * (beta / 2 * np.sqrt(s))
        largest = 1 / max(float(np.linalg.norm(Y, 2, axis=(-2, -1)).max()), 1e-100) ** 2
        lam = s * (largest / 2 if room == 0 else min(1.0, largest * (0.5 + 0.5 * room) * (1 - 1e-6)))
        C = Y * (lam / s) * np.sqrt(s)
        L = np.linalg.cholesky(np.diag(lam) - C.conj().mT @ C)
        found.append(lam)
    return found


def _coarse(trunk: Trunk) -> list[np.ndarray] | None:
    """LipSDP with one multiplier a channel on a few frequencies."""
    import torch

    from sdplip.bounds._interior import iterates
    from sdplip.bounds.lipsdp import _Scaled

    channels = [len(K) for K in trunk.kernels]
    side = int(max(2, (COARSE_ORDER / sum(channels)) ** (1 / len(trunk.torus))))
    some = np.array(list(grid(*(np.linspace(0, n, side, endpoint=False).astype(int) for n in trunk.torus))))
    some = some[[i for i, p in enumerate(some) if tuple(p) <= tuple(-p % trunk.torus)]]
    symbols = _symbols(trunk, some)
    end, dilation = trunk.last if trunk.last is not None else (trunk.head, (1,) * len(trunk.torus))
    assert end is not None
    U, V = symbol(end, dilation, trunk.torus, some)[0]
    weights = [_blocks(M) for M in symbols]
    if trunk.last is not None:
        weights.append(_blocks(U + 1j * V))
    else:
        share = 1 / np.sqrt(len(some))
        weights.append(
            np.concatenate([np.concatenate([u, -v], -1) for u, v in zip(U, V, strict=True)], -1) * share
        )
    slopes = tuple(
        (np.zeros(len(W)), np.full(len(W), beta)) for W, beta in zip(weights, trunk.slopes, strict=False)
    )
    if sum(map(len, weights[:-1])) > 4 * COARSE_ORDER:
        return None
    numbers = np.concatenate(
        [
            np.tile(np.arange(c), 2 * len(some)) + at
            for c, at in zip(channels, np.cumsum([1, *channels]), strict=False)
        ]
    )
    try:
        scaled = _Scaled.of(tuple(weights), slopes, "cpu")
        groups, best = torch.tensor(np.concatenate([[0], numbers])), None
        y = scaled.start  # equal within groups, as the spectral start is
        for count, point in enumerate(iterates(scaled.blocks, y, groups)):
            best = point if best is None or abs(point.gap) < abs(best.gap) else best
            if abs(point.gap) < 1e-6 or count > 60:
                break
    except np.linalg.LinAlgError:
        return None
    if best is None:
        return None
    return [lam[:c] for lam, c in zip(scaled.multipliers(best.y), channels, strict=True)]


def _blocks(M: np.ndarray) -> np.ndarray:
    """The real block-diagonal matrix of complex blocks."""
    from scipy.linalg import block_diag

    real = (np.block([[m.real, -m.imag], [m.imag, m.real]]) for m in M)
    return np.asarray(block_diag(*real))


def _tuple(axes: int | tuple[int, ...]) -> tuple[int, ...]:
    assert isinstance(axes, tuple), "a Convolution expands its geometry"
    return axes
