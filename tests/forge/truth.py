"""Is what a claim says true? Judged by difference quotients, dense matrices and points around images: never by the kernel."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.forge.worlds import Function, World, axes, convolution

Json = Mapping[str, Any]
SLACK = 1e-9
"""Relative; quotients are computed in floating point."""


@dataclass(eq=False)
class Judge:
    """The truth about one weight file.

    Attributes:
        world: the network under a reading; None where there is none.
        layer: a layer by its name and whether the file is read as transposed.
        geometry: what the file itself says of that layer; None where it says nothing.
        names: of all arrays of the file.
        images, labels, masks: of claims about images.
    """

    world: Callable[[Json], World | None]
    layer: Callable[[str, bool], np.ndarray | None] = lambda name, transpose: None  # noqa: ARG005
    geometry: Callable[[str], Json | None] = lambda name: None  # noqa: ARG005
    names: frozenset[str] = frozenset()
    images: np.ndarray | None = None
    labels: np.ndarray | None = None
    masks: np.ndarray | None = None
    known: dict[str, float] = field(default_factory=dict)

    def lie(self, reading: Json, claim: Json) -> str | None:
        """What is false about an accepted claim; None where nothing is."""
        kind = claim["kind"]
        if kind == "condition":
            return self._condition(reading, claim)
        world = self.world(reading)
        if world is None:
            return f"the reading {json.dumps(reading)} means nothing"
        if kind == "pixels":
            return self._pixels(world, claim)
        if kind == "expansion":
            return self._expansion(world, claim)
        return self._lipschitz(world, reading, claim) if kind == "lipschitz" else self._accuracy(world, claim)

    def silence(self, reading: Json, claims: Sequence[Json], assumed: str, left_out: set[str]) -> str | None:
        """What the verifier must say beside its claims and did not: arrays that take no part, what was assumed."""
        if reading["kind"] == "layers":
            used = {claim["layer"] for claim in claims}
        else:
            world = self.world(reading)
            assert world is not None, "the claims were judged before"
            used = world.used
            missing = [word for word in world.said if word not in assumed]
            if missing:
                return f"it was not said that {missing[0]} is assumed"
        hidden = self.names - used - left_out
        return f"nothing was said of {sorted(hidden)}" if hidden else None

    def _lipschitz(self, world: World, reading: Json, claim: Json) -> str | None:
        key = json.dumps([reading, claim["output"], claim["norm"], claim["region"]], sort_keys=True)
        if key not in self.known:
            points = points_of(claim["region"], world.inputs)
            if points is None:
                return "the region is empty or none"
            self.known[key] = max(
                steepest(rows(f, claim["output"]), points, claim["region"], claim["norm"], world.coarse)
                for f in world.functions
            )
        least = self.known[key]
        if claim["bound"] < least * (1 - SLACK):
            return f"the constant is at least {least!r}, not at most {claim['bound']!r}"
        return None

    def _expansion(self, world: World, claim: Json) -> str | None:
        points = points_of(None, world.inputs)
        assert points is not None, "the whole space has points"
        for f in world.functions:
            step, base = (3e-2 if world.coarse else 1e-4), f(points)
            J = np.stack([(f(points + step * e) - base) / step for e in np.eye(world.inputs)], -1)
            if not np.isfinite(J).all():
                continue  # numbers beyond floating point, of which nothing is known here
            for k in np.argsort(np.linalg.svd(J, compute_uv=False)[:, -1])[:12]:
                v = np.linalg.svd(J[k])[2][-1]  # of a wide matrix, one that it maps to 0
                y = f(np.stack([points[k] - step * v, points[k] + step * v]))
                stretch = float(np.linalg.norm(y[1] - y[0])) / (2 * step) + 1e-9 * float(abs(y).max())
                if claim["lower"] > stretch:
                    return f"two inputs are moved apart by {stretch!r} alone, not by {claim['lower']!r}"
        return None

    def _condition(self, reading: Json, claim: Json) -> str | None:
        W = self.layer(claim["layer"], bool(reading.get("transpose", False)))
        if W is None:
            return f"there is no layer {claim['layer']}"
        said = self.geometry(claim["layer"])
        if said is not None and any(
            list(axes(claim["geometry"][name], W.ndim - 2)) != list(axes(value, W.ndim - 2))
            if isinstance(value, list | tuple | int) and name != "groups"
            else claim["geometry"][name] != value
            for name, value in said.items()
        ):
            return "the geometry is not that of the file"
        low, high = (
            least_scale(W, np.array(claim["t"]), claim["form"])
            if claim["geometry"] is None
            else least_scale_of_kernel(W, np.array(claim["t"]), claim["form"], claim["geometry"])
        )
        if claim["c"] < low * (1 - SLACK):
            return f"the least c is at least {low!r}, not at most {claim['c']!r}"
        if claim["c_lower"] > high * (1 + SLACK):
            return f"the least c is at most {high!r}, not at least {claim['c_lower']!r}"
        return None

    def _accuracy(self, world: World, claim: Json) -> str | None:
        assert self.images is not None and self.labels is not None, "the case has images"
        dtype = np.float32 if claim["arithmetic"] == "float32" else np.float64
        (f,) = world.functions
        for index, label, prediction, radius in zip(
            claim["index"], claim["label"], claim["prediction"], claim["radius"], strict=True
        ):
            if self.labels[index] != label:
                return f"the label of image {index} is {self.labels[index]}"
            x = self.images[index].reshape(-1)
            x = (x.astype(dtype) / dtype(255) if x.dtype == np.uint8 else x.astype(dtype)).astype(np.float64)
            own = int(f(x[None])[0].argmax())
            if (prediction >= 0 or radius > 0) and own != prediction:
                return f"image {index} is of class {own}, not {prediction}"
            if radius > 0 and (near := adversary(f, x, own, radius)) is not None:
                return f"image {index} has another class at distance {near!r}, within {radius!r}"
        return None

    def _pixels(self, world: World, claim: Json) -> str | None:
        assert self.images is not None and self.masks is not None, "the case has images"
        (f,) = world.functions
        for index, pixels, right in zip(claim["index"], claim["pixels"], claim["right"], strict=True):
            mask, x = self.masks[index].reshape(-1), self.images[index].reshape(-1)
            if pixels != (mask >= 0).sum():
                return f"{(mask >= 0).sum()} pixels of image {index} count, not {pixels}"
            x = x.astype(np.float64) / (255 if x.dtype == np.uint8 else 1)
            least = fewest(f, x, mask, claim["eps"] * (1 - SLACK))
            if least < right:
                return f"a change leaves {least} right pixels of image {index}, not {right}"
        return None


def rows(f: Function, output: Sequence[int]) -> Function:
    """One output, or the difference of two."""
    if not output:
        return f
    if len(output) == 1:
        return lambda x: f(x)[:, output[0] : output[0] + 1]
    return lambda x: f(x)[:, output[0] : output[0] + 1] - f(x)[:, output[1] : output[1] + 1]


@np.errstate(all="ignore")
def points_of(region: Json | None, n: int, count: int = 400) -> np.ndarray | None:
    """Points of the whole space on several scales, or of a region, some on its border."""
    rng = np.random.default_rng(0)
    if region is None:
        return np.concatenate([rng.normal(size=(count // 4, n)) * scale for scale in (0.3, 1.0, 3.0, 30.0)])
    low, high = np.full(n, -np.inf), np.full(n, np.inf)
    if "box" in region:
        low, high = np.array(region["box"]["lower"], float), np.array(region["box"]["upper"], float)
    if "ball" in region:
        c, r = np.array(region["ball"]["center"], float), float(region["ball"]["radius"])
        if len(c) != n:
            return None
        d = rng.normal(size=(count, n))
        d *= (r * rng.choice([1.0, 0.5, 0.9, 0.1], (count, 1))) / np.linalg.norm(d, axis=1, keepdims=True)
        x = np.clip(c + d, low, high)
        return x[np.linalg.norm(x - c, axis=1) <= r]
    if len(low) != n or (low > high).any():
        return None
    return np.clip(low + (high - low) * rng.choice([0.0, 1.0, rng.uniform()], (count, n)), low, high)


@np.errstate(all="ignore")
def steepest(f: Function, points: np.ndarray, region: Json | None, norm: str, coarse: bool = False) -> float:
    """The largest difference quotient that is found: along the axes, then along the steepest directions from the steepest points.

    `coarse` takes longer steps and calls more of the difference rounding: for functions in single precision.
    """
    if not len(points):
        return 0.0
    points = points[::4] if coarse else points
    n, step, rounding = points.shape[1], (3e-2 if coarse else 1e-4) * _size(region), 2e-6 if coarse else 2e-14
    if step == 0:
        return 0.0
    base = f(points)
    J = np.stack([(f(points + step * e) - base) / step for e in np.eye(n)], -1)
    if not J.size or not np.isfinite(J).all():
        return 0.0  # numbers beyond floating point, of which nothing is known here
    found = 0.0
    for k in np.argsort(-np.linalg.norm(J, axis=(1, 2)))[:12]:
        tops = (
            np.linalg.svd(J[k])[2][0],
            *(J[k] / np.maximum(np.linalg.norm(J[k], axis=1, keepdims=True), 1e-300)),
        )
        for v in tops:
            a, b = inside(points[k] - step * v, region), inside(points[k] + step * v, region)
            apart = float(np.linalg.norm(b - a))
            y = f(np.stack([a, b]))
            moved = abs(y[1] - y[0]).max() if norm == "linf" else np.linalg.norm(y[1] - y[0])
            lost = rounding * (abs(y).max() + abs(base).max() + abs(a).max())
            if apart > 0:
                found = max(found, float((moved - lost) / apart))
    return found


def _size(region: Json | None) -> float:
    if region is None:
        return 1.0
    sizes = [2 * region["ball"]["radius"]] if "ball" in region else []
    if "box" in region:
        sizes.append(max(b - a for a, b in zip(region["box"]["lower"], region["box"]["upper"], strict=True)))
    return min(sizes)


def inside(x: np.ndarray, region: Json | None) -> np.ndarray:
    """A point of the region near x; of a ball in a box, x itself where it lies in both, else the centre."""
    if region is None:
        return x
    box = region.get("box")
    if box is not None:
        x = np.clip(x, box["lower"], box["upper"])
    if "ball" in region:
        c, r = np.array(region["ball"]["center"], float), float(region["ball"]["radius"])
        far = float(np.linalg.norm(x - c))
        if far > r:
            x = c + (x - c) * (r / far) * (1 - 1e-12)
        if box is not None and ((x < box["lower"]) | (x > box["upper"])).any():
            return np.clip(c, box["lower"], box["upper"])
    return x


def least_scale(W: np.ndarray, t: np.ndarray, form: str) -> tuple[float, float]:
    """Below and above the least c of a matrix, equal but for rounding."""
    W = W if form == "linear" else W.T
    used = (W != 0).any(0)
    if len(t) != W.shape[1] or not (t[used] > 0).all():
        return math.inf, 0.0
    c = float(np.linalg.norm(W[:, used] / np.sqrt(t[used]), 2)) if used.any() else 0.0
    return c, c


def least_scale_of_kernel(K: np.ndarray, t: np.ndarray, form: str, geometry: Json) -> tuple[float, float]:
    """The same of a convolution: the dense matrix of its image size; of every size, that of a large circle, and no more."""
    count, groups = K.ndim - 2, int(geometry["groups"])
    stride, dilation = axes(geometry["stride"], count), axes(geometry["dilation"], count)
    mode, size, padding = geometry["padding_mode"], geometry["image_size"], geometry["padding"]
    reach = [d * (k - 1) for d, k in zip(dilation, K.shape[2:], strict=True)]
    every = size is None
    if every:
        size, mode, padding = [s * (24 if count == 1 else 8) for s in stride], "circular", [0] * count
        size = [s * -(-max(n, 2 * r + 2) // s) for n, r, s in zip(size, reach, stride, strict=True)]
    size = axes(size, count)
    lower = [r // 2 for r in reach] if padding is None else list(axes(padding, count))
    upper = [r - r // 2 for r in reach] if padding is None else lower
    if every:
        lower, upper = [0] * count, reach
    M = _padded(K, size, stride, lower, upper, mode, dilation, groups)
    if M is None:
        return math.inf, 0.0
    if form == "linear":
        weight = np.repeat(t, math.prod(size))
    else:
        M, weight = M.T, np.repeat(t, len(M) // len(K))
    used = (M != 0).any(0)
    if len(weight) != M.shape[1] or not (weight[used] > 0).all():
        return math.inf, 0.0
    c = float(np.linalg.norm(M[:, used] / np.sqrt(weight[used]), 2))
    return (c, c * 1.02) if every else (c, c)


def _padded(
    K: np.ndarray,
    size: Sequence[int],
    stride: Sequence[int],
    lower: Sequence[int],
    upper: Sequence[int],
    mode: str,
    dilation: Sequence[int],
    groups: int,
) -> np.ndarray | None:
    """A convolution whose padding may differ on both sides: pad by an index map, then convolve without padding."""
    width = K.shape[1] * groups
    index = np.arange(width * math.prod(size)).reshape(width, *size)
    wide = np.pad(
        index + 1, ((0, 0), *zip(lower, upper, strict=True)), mode="wrap" if mode == "circular" else "constant"
    ) - 1  # fmt: skip
    if any(n <= d * (k - 1) for n, d, k in zip(wide.shape[1:], dilation, K.shape[2:], strict=True)):
        return None
    M = convolution(K, wide.shape[1:], stride, (0,) * len(size), "zeros", dilation, groups)
    found = np.zeros((len(M), index.size + 1))
    np.add.at(found.T, wide.reshape(-1), M.T)
    return found[:, : index.size]


def adversary(f: Function, x: np.ndarray, label: int, radius: float) -> float | None:
    """The distance of a point strictly within the radius that is of another class, as far as some directions tell."""
    rng, n = np.random.default_rng(1), len(x)
    y, step = f(x[None])[0], 1e-5
    J = np.stack([(f(x[None] + step * e)[0] - y) / step for e in np.eye(n)], -1)
    ways = np.concatenate([J[label] - J, J - J[label], rng.normal(size=(96, n))])
    ways = ways[np.linalg.norm(ways, axis=1) > 1e-12]
    ways = -ways / np.linalg.norm(ways, axis=1, keepdims=True)
    for share in (1 - 1e-9, 1 - 1e-3, 0.9, 0.5):
        reach = min(radius, 1e6) * share
        far = f(x + reach * ways)
        margin = far[:, [label]] - np.delete(far, label, 1)
        worst = margin.min(-1)
        k = int(worst.argmin())
        if worst[k] < -1e-12 * (1 + abs(far[k]).max()):
            return reach
    return None


def fewest(f: Function, x: np.ndarray, mask: np.ndarray, eps: float) -> int:
    """The fewest right pixels that are found within `eps`: along the steepest ways of single pixels, of several, and any others."""
    rng, n, step = np.random.default_rng(2), len(x), 1e-5
    eps = min(eps, 1e6)

    def leads(points: np.ndarray) -> np.ndarray:
        s = f(points).reshape(len(points), -1, len(mask))
        s = np.concatenate([np.zeros_like(s), s], 1) if s.shape[1] == 1 else s
        own = np.take_along_axis(s, np.maximum(mask, 0)[None, None], 1)[:, 0]
        np.put_along_axis(s, np.broadcast_to(np.maximum(mask, 0), (len(s), 1, len(mask))), -np.inf, 1)
        return own - s.max(1)

    base = leads(x[None])[0]
    J = np.stack([(leads(x[None] + step * e)[0] - base) / step for e in np.eye(n)], -1)
    order = [p for p in np.argsort(base) if mask[p] >= 0 and base[p] > 0]
    ways = [x * 0, *(-J[p] for p in order), *rng.normal(size=(64, n))]
    for k in range(2, len(order) + 1):
        ways.append(-np.linalg.pinv(J[order[:k]]) @ base[order[:k]])
    ways = np.array([way / max(float(np.linalg.norm(way)), 1e-300) for way in ways])
    points = np.concatenate([x + share * eps * ways for share in (1.0, 0.9, 0.5)])
    return int(((leads(points) > -1e-9) & (mask >= 0)).sum(1).min())
