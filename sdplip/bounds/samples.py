"""Lower estimates on the kernel's layers: the largest norm of a Jacobian that was found, anywhere or on a region."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float

from sdplip.certificates.functions import FUNCTIONS, PIECES
from sdplip.certificates.region import Ball, Box, Cut, Region
from sdplip.certificates.system import Layers, Map, Skip, Slope, Sort

Vector = Float[np.ndarray, " n"]
Matrix = Float[np.ndarray, "m n"]


OutputNorm = Literal["l2", "linf"]
"""Of the output: all of it as a Euclidean length, or its largest entry."""


def operator_norm(J: Matrix, norm: OutputNorm = "l2") -> float:
    """Of a Jacobian from Euclidean lengths to `norm`: its spectral norm, or its longest row. Floating point."""
    return float(np.linalg.norm(J, 2) if norm == "l2" else np.linalg.norm(J, axis=1).max())


def largest_jacobian(
    layers: Layers,
    inputs: int,
    region: Region | None = None,
    samples: int = 150,
    *,
    norm: OutputNorm = "l2",
) -> float:
    r"""The largest norm of $J(x)$ at random points of `region` and uphill of the best; 0.0 where J is not known.

    Reproducible: the points come from a fixed seed.
    """
    if not known(layers):
        return 0.0
    rng = np.random.default_rng(0)
    points = list(_points(rng, inputs, region, samples))
    norms = [_norm(layers, x, norm) for x in points]
    best = int(np.argmax(norms))
    x, most = points[best], norms[best]
    size = _size(region, x)
    for step in np.geomspace(1.0, 0.01, samples // 3) * size:
        trial = _into(x + step * rng.normal(size=inputs) / np.sqrt(inputs), region)
        found = _norm(layers, trial, norm)
        if found > most:
            x, most = trial, found
    return most


def known(layers: Layers) -> bool:
    """Whether every function of the layers is known, not only its slopes."""
    return all(
        known(layer.branch) if isinstance(layer, Skip) else layer.kind in (*PIECES, *FUNCTIONS)
        for layer in layers
        if isinstance(layer, Skip | Slope)
    )


def value_and_jacobian(layers: Layers, x: Vector, J: Matrix | None = None) -> tuple[Vector, Matrix]:
    """Output and Jacobian; a kink counts as its right side."""
    for layer in layers:
        if isinstance(layer, Map):
            x, J = layer.W @ x + (0.0 if layer.b is None else layer.b), layer.W if J is None else layer.W @ J
            continue
        J = np.eye(len(x)) if J is None else J
        if isinstance(layer, Slope):
            x, slope = _activation(layer, x)
            J = slope[:, None] * J
        elif isinstance(layer, Sort):
            x, J = x.copy(), J.copy()
            for row in layer.groups:
                order = row[np.argsort(x[row], kind="stable")]
                x[row], J[row] = x[order], J[order]
        else:
            y, K = value_and_jacobian(layer.branch, x, J)
            x, J = x + y, J + K
    return x, np.eye(len(x)) if J is None else J


def _activation(layer: Slope, x: Vector) -> tuple[Vector, Vector]:
    if layer.kind in PIECES:
        slope = np.where(x >= 0, 1.0, PIECES[layer.kind](layer.alpha, layer.beta))
        return slope * x, slope
    function = FUNCTIONS[layer.kind]
    low, high = function.derivatives(x, x)
    return function.value(x)[0], low / 2 + high / 2


def _norm(layers: Layers, x: Vector, norm: OutputNorm) -> float:
    _, J = value_and_jacobian(layers, x)
    return operator_norm(J, norm) if np.isfinite(J).all() else 0.0


def _points(rng: np.random.Generator, n: int, region: Region | None, samples: int) -> Iterator[Vector]:
    for k in range(samples):
        if region is None:
            yield (0.1, 1.0, 10.0)[k % 3] * rng.normal(size=n)
        elif isinstance(region, Box):
            yield region.lower + rng.uniform(size=n) * (region.upper - region.lower)
        else:
            ball = region.ball if isinstance(region, Cut) else region
            v = rng.normal(size=n)
            x = ball.center + v * (ball.radius * rng.uniform() ** (1 / n) / np.linalg.norm(v))
            yield _into(x, region) if isinstance(region, Cut) else x
    if region is None:
        yield from (np.full(n, far) for far in (1e6, -1e6, 1.0, -1.0, 0.0))


def _size(region: Region | None, x: Vector) -> float:
    if region is None:
        return float(np.linalg.norm(x))
    if isinstance(region, Cut):
        return min(region.ball.radius, _size(region.box, x))
    return float(np.linalg.norm(region.upper - region.lower)) if isinstance(region, Box) else region.radius


def _into(x: Vector, region: Region | None) -> Vector:
    """The nearest point of the region, up to rounding; of a ball in a box one that is near."""
    if isinstance(region, Cut):
        inside = np.clip(region.ball.center, region.box.lower, region.box.upper)
        x = np.clip(_into(x, region.ball), region.box.lower, region.box.upper)
        for _ in range(40):  # towards a point of both, as far as it takes
            if np.linalg.norm(x - region.ball.center) <= region.ball.radius:
                return x
            x = x / 2 + inside / 2
        return inside
    if isinstance(region, Box):
        return np.clip(x, region.lower, region.upper)
    if isinstance(region, Ball):
        away = x - region.center
        return region.center + away * min(1.0, region.radius / max(float(np.linalg.norm(away)), 1e-300))
    return x
