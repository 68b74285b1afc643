"""Where a symbol stretches most: frequencies and vectors, found by turns. Nothing here is trusted."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, Int

from sdplip.kernel.condition.symbol import Lattice, Symbol, halved, lattice_points
from sdplip.proposals.lanczos import top_eigenvector

STARTS = 4
"""Candidates from which a peak is climbed."""
SAMPLES = 40
"""Frequencies that are looked at first."""


@dataclass(frozen=True, eq=False)
class Peak:
    r"""A frequency, the estimate of $\lambda_{\max}$ there, and the vector of it in the metric of t."""

    omega: Float[np.ndarray, " axes"]
    value: float
    vector: Complex[np.ndarray, " columns"]


def samples(symbol: Symbol) -> tuple[Float[np.ndarray, "f axes"], Float[np.ndarray, " f"]]:
    r"""Frequencies all over, and estimates of $\lambda_{\max}$ from below, by a few Lanczos steps."""
    active = np.array(symbol.degrees) > 0
    count = max(1, int(active.sum()))
    side = max(4, min(2 * max(symbol.degrees) + 2, int((2 * SAMPLES) ** (1 / count))))
    shape = tuple(np.where(active, side, 1).tolist())
    omegas = 2 * np.pi * halved(lattice_points(shape), shape) / np.array(shape)
    return omegas, np.array([_top(symbol, omega, steps=24, tolerance=1e-3).value for omega in omegas])


def highest(symbol: Symbol, found: tuple[np.ndarray, np.ndarray]) -> Peak:
    """The highest peak that climbing from the best `samples` finds."""
    omegas, values = found
    best = np.argsort(-values, kind="stable")[:STARTS]
    return max((climb(symbol, omegas[k]) for k in best), key=lambda peak: peak.value)


def climb(symbol: Symbol, omega: Float[np.ndarray, " axes"], rounds: int = 20) -> Peak:
    """The peak near a frequency: the vectors of the largest singular value, then the frequency that suits them best, by turns."""
    peak = _top(symbol, omega, steps=16)
    for _ in range(rounds):
        found = _top(symbol, _ascended(symbol, peak), steps=16, start=peak.vector)
        if found.value <= peak.value * (1 + 1e-8):
            break
        peak = found
    return at(symbol, peak.omega, peak.vector)


def at(symbol: Symbol, omega: Float[np.ndarray, " axes"], start: np.ndarray | None = None) -> Peak:
    """Value and vector at one frequency, about as good as doubles allow."""
    return _top(symbol, omega, steps=300, start=start, tolerance=1e-9)


def nearest(omega: Float[np.ndarray, " axes"], lattice: Lattice) -> Int[np.ndarray, " axes"]:
    """The lattice point next to a frequency."""
    return np.rint(omega * np.array(lattice) / (2 * np.pi)).astype(np.int64) % np.array(lattice)


def _top(
    symbol: Symbol,
    omega: Float[np.ndarray, " axes"],
    steps: int,
    start: np.ndarray | None = None,
    tolerance: float = 1e-6,
) -> Peak:
    r = symbol.d**-0.5
    M = near(symbol, omega) * r
    n = M.shape[1]
    v = np.cos(np.arange(n) * 2.399963 + 0.5) + 1e-3 if start is None else start / r
    value, x = top_eigenvector(lambda x: ((M @ x).conj() @ M).conj(), n, tolerance, steps, v + 0j)
    return Peak(omega, value, x * r)


def _ascended(symbol: Symbol, peak: Peak) -> Float[np.ndarray, " axes"]:
    r"""The frequency near which $|u^* M(\omega) v|$ is largest, for the vectors of a peak: Newton steps uphill."""
    c = _pairings(symbol, near(symbol, peak.omega) @ peak.vector, peak.vector)
    q, omega, longest = symbol.offsets, peak.omega, 0.5 / max(1, *symbol.degrees)
    for _ in range(4):
        e = c * np.exp(1j * (q @ omega))
        s, first = e.sum(), 1j * (q.T @ e)
        gradient = 2 * (s.conj() * first).real
        hessian = 2 * (np.outer(first.conj(), first) - s.conj() * (q.T * e @ q)).real
        w, V = np.linalg.eigh(hessian)
        w = np.maximum(abs(w), 1e-6 * abs(s) ** 2 + 1e-150)
        step = V @ (V.T @ gradient / w)
        length = float(np.linalg.norm(step))
        step *= min(1.0, longest / length) if length else 0.0
        for _ in range(6):
            if abs((c * np.exp(1j * (q @ (omega + step)))).sum()) > abs(s):
                break
            step = step / 4
        else:
            break
        omega = omega + step
        if length < 1e-7:
            break
    return omega


def near(symbol: Symbol, omega: Float[np.ndarray, " axes"]) -> Complex[np.ndarray, "rows columns"]:
    """M at any frequency, as floating point has it."""
    return symbol.sums(symbol.taps, np.exp(1j * (symbol.offsets @ omega))[None])[0]


def _pairings(
    symbol: Symbol, y: Complex[np.ndarray, " rows"], v: Complex[np.ndarray, " columns"]
) -> Complex[np.ndarray, " q"]:
    r"""$y^* K_q v$ of each tap, placed at its phase, so that $y^* M(\omega) v$ is their sum with waves."""
    _, m, n = symbol.taps.shape
    ys, vs = y.reshape(-1, m), v.reshape(-1, n)
    found = np.zeros(len(symbol.taps), np.complex128)
    for p in range(symbol.phases):
        own = symbol.phase == p
        y, v = (ys[0], vs[p]) if symbol.linear else (ys[p], vs[0])
        parts = np.stack([np.real(y), np.imag(y)]) @ symbol.taps[own]
        found[own] = (parts[:, 0] - 1j * parts[:, 1]) @ v
    return found
