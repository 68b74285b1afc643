r"""Bounds of convolutional networks too large for dense matrices: a trunk of stride 1 frequency by frequency, then a dense tail.

`certificates.trunk` proves. Multipliers, one a channel, are proposed by the spectral closed form and by `channels`, which finds
the best ones over all frequencies. Where that is too much work, or activations follow the head, LipSDP on a few frequencies,
whose block-diagonal matrices are a network of their own, proposes the shape, rescaled for all frequencies.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product as grid

import numpy as np

from sdplip.bounds.channels import Problem, best_channels, drawn
from sdplip.bounds.lower import estimate_lower
from sdplip.bounds.result import NetworkBound, proof_of
from sdplip.certificates.parts import PartProof, certify_factors
from sdplip.certificates.rounding import up
from sdplip.certificates.trunk import Trunk, certify_trunk, representatives, symbol
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.networks import Chain, Network
from sdplip.networks.chain import runs_of
from sdplip.networks.linear import fits
from sdplip.networks.trunk import HEAD, Split, TrunkSplit, factors_of, split_strip, split_trunk
from sdplip.solvers.solution import Status

COARSE_ORDER = 480
"""Neurons of the network of a few frequencies that LipSDP solves."""


def is_dense(network: Network) -> bool:
    """Whether the dense matrices of this network, a chain, may be formed."""
    return all(map(fits, runs_of(network)[0]))


def bound_images(
    network: Network,
    method: str,
    extra: float = 0.0,
    progress: Callable[[int, float, float], None] | None = None,
) -> NetworkBound:
    """The bound by "frequency", "state-space", "product" or "auto", the least of first and third; `extra` is added.

    Raises:
        InvalidProblem: another method, or a network without a trunk of convolutions of stride 1.
        NotProvable: nothing could be proven.
    """
    begin = time.perf_counter()
    if method not in ("auto", "product", "frequency", "state-space", "banded"):
        raise InvalidProblem(
            f"The method {method!r} needs the dense matrices of this network, which are too large. Use 'auto', 'frequency',"
            " 'banded' or 'product'."
        )
    runs, activations = runs_of(network)
    proofs, tail = dict[str, PartProof](), Chain((np.eye(1),), ())
    if method in ("auto", "product"):
        proofs["product"] = PartProof("layers", certify_factors(factors_of(runs, activations)))
    if method == "banded":
        from sdplip.bounds.banded import bounded  # loads SciPy

        name, tail, proof = bounded(split_strip(runs, activations), progress)
        proofs |= {name: proof}
    elif method != "product":
        split = split_trunk(runs, activations)
        if split is None and method != "auto":
            raise InvalidProblem(
                f"The method {method!r} needs convolutions of stride 1 without groups, each followed by an activation of slopes"
                f" between 0 and a bound, and behind them at most {HEAD} outputs of one layer. Use 'auto' or 'product'."
            )
        if split is not None:
            name, tail, proof = _bounded(split, method)
            proofs |= {} if proof is None else {name: proof}
    best = min(proofs, key=lambda name: proofs[name].bound, default="")
    if not proofs or not np.isfinite(proofs[best].bound):
        raise NotProvable(
            "No finite bound could be proven for this network. Rescale its kernels by powers of two."
        )
    value = up(proofs[best].bound + extra) if extra else proofs[best].bound
    order = sum(run[-1].outputs for run in runs[:-1])
    lower = min(estimate_lower(network), value)
    seconds = time.perf_counter() - begin
    found = {name: proof.bound for name, proof in proofs.items()}
    result = NetworkBound(
        value, lower, None, best, Status.OPTIMAL, None, None, order, seconds, 0, found, tail
    )
    return result if extra else replace(result, parts=(proofs[best],))


def _bounded(split: TrunkSplit, method: str) -> tuple[str, Chain, PartProof | None]:
    """The best proposal's name, the chain behind the trunk, and the proof; None where nothing was proven."""
    best = "frequency", split.tail, None
    proposals = _of_state_space if method == "state-space" else _proposals
    for name, multipliers in proposals(split.trunk, len(split.tail.weights) > 1):
        R = certify_trunk(split.trunk, multipliers)
        if R is None:
            continue
        lams, tail, behind = tuple(multipliers), Chain((R,), ()), None
        value = float(R[0, 0])
        if split.trunk.head is not None:
            tail, behind = tail_proof(R, split)
            value = up(behind.bound + split.slack) if split.slack else behind.bound
        if best[2] is None or value < best[2].bound:
            best = name, tail, PartProof("trunk", value, multipliers=lams, front=R, tail=behind)
    return best


def tail_proof(R: np.ndarray, split: Split) -> tuple[Chain, PartProof]:
    """The chain whose first matrix is `R`, and its proof: its norm, or the best of the methods for dense networks."""
    from sdplip.bounds.auto import bound_chain

    tail = Chain((R, *split.tail.weights[1:]), split.tail.slopes)
    return tail, proof_of(bound_chain(tail))


def _proposals(trunk: Trunk, deep: bool) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Multipliers, cheapest first. Those of `best_channels` are optimal unless activations follow the head (`deep`)."""
    problem, spectral = problem_of(trunk)
    yield "frequency-spectral", spectral
    best = best_channels(problem, spectral)
    if best is not None:
        # the optimum may lie too near the border for a proof
        for part in (1.0, 1 - 1e-5, 1 - 1e-3, 0.99, 0.9):
            yield "frequency-optimal", drawn(problem, spectral, best, part)
    shape = None if best is not None and not deep else _coarse(trunk)
    if shape is not None:
        for room in (1.0, 0.5):
            yield "frequency-lipsdp", _rescaled(problem.symbols, trunk.slopes, shape, room)


def _of_state_space(trunk: Trunk, _deep: bool) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Those of GLipSDP, drawn towards the spectral ones until they prove something."""
    from sdplip.bounds.state_space import state_space  # loads CVXPY

    problem, spectral = problem_of(trunk)
    claimed = state_space(trunk).multipliers
    for part in (1.0, 1 - 1e-6, 1 - 1e-3) if claimed else ():
        yield "state-space", drawn(problem, spectral, claimed, part)


def problem_of(trunk: Trunk) -> tuple[Problem, list[np.ndarray]]:
    """The problem of the best multipliers, and the spectral ones, which are feasible."""
    points, share = representatives(trunk.torus)
    symbols = _symbols(trunk, points)
    scale = 1.0 if trunk.head is None else np.prod(trunk.torus) ** -0.5
    behind = _behind(trunk, points) * scale
    spectral = _rescaled(symbols, trunk.slopes, [np.ones(len(K)) for K in trunk.kernels])
    return Problem(symbols, trunk.slopes, behind, points, share, trunk.head is not None), spectral


def _behind(trunk: Trunk, points: np.ndarray) -> np.ndarray:
    """Symbol of the last convolution, or of the head as a kernel."""
    end, dilation = trunk.last if trunk.last is not None else (trunk.head, (1,) * len(trunk.torus))
    assert end is not None
    U, V = symbol(end, dilation, trunk.torus, points)[0]
    return U + 1j * V


def _symbols(trunk: Trunk, points: np.ndarray) -> list[np.ndarray]:
    pairs = (
        symbol(K, d, trunk.torus, points)[0] for K, d in zip(trunk.kernels, trunk.dilations, strict=True)
    )
    return [U + 1j * V for U, V in pairs]


def _rescaled(
    symbols: Sequence[np.ndarray], slopes: tuple[float, ...], shape: list[np.ndarray], room: float = 0.0
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

    from sdplip.bounds.lipsdp import _Scaled
    from sdplip.bounds.numerics.interior import iterates

    channels = [len(K) for K in trunk.kernels]
    side = int(max(2, (COARSE_ORDER / sum(channels)) ** (1 / len(trunk.torus))))
    some = np.array(list(grid(*(np.linspace(0, n, side, endpoint=False).astype(int) for n in trunk.torus))))
    some = some[[i for i, p in enumerate(some) if tuple(p) <= tuple(-p % trunk.torus)]]
    symbols = _symbols(trunk, some)
    behind, weights = _behind(trunk, some), [_blocks(M) for M in symbols]
    if trunk.last is not None:
        weights.append(_blocks(behind))
    else:
        share = 1 / np.sqrt(len(some))
        weights.append(np.concatenate([np.concatenate([M.real, -M.imag], -1) for M in behind], -1) * share)
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
