r"""Slopes and scalars of the offsets of `sdplip.kernel.spread` by gradient descent in torch, for many images and classes at once.

Nothing here is trusted: the kernel computes what the slopes and scalars prove. A row is a margin on the ball around one image; rows
have slopes of their own. The scalars follow the slopes: where they are best, the largest z is as far from the centre as the ball
reaches, a fixed point that a few steps find (and by the envelope theorem the slopes need no gradient through them).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sdplip.kernel.spread import Front, Spread
from sdplip.network import AbstractLinear, Concatenate, Convolution, Dense, Sum
from sdplip.robustness.graph_module import GraphModule, adjoint

Rows = Float[Tensor, "rows n"]
Map = Callable[[Rows], Rows]
STEPS = 40
"""Of the descent on slopes."""
WARM = 1
"""Steps of the fixed point of the scalars behind each step on slopes."""
RATE = 0.1
"""Of its first steps, in units of slopes."""


@dataclass(frozen=True, eq=False)
class Row:
    """One margin on one ball: what falls is `row` times the output."""

    spread: Spread
    row: Float[np.ndarray, " outputs"]
    start: "Found | None" = None


@dataclass(frozen=True, eq=False)
class Found:
    """Slopes and scalar of each activation, about how far the margin stays positive, and what each entry adds to the loss."""

    slopes: tuple[Float[np.ndarray, " n"], ...]
    scale: tuple[float, ...]
    least: float
    loss: tuple[Float[np.ndarray, " n"], ...] = ()


@dataclass(eq=False)
class Search:
    """The way back through a network in torch."""

    front: Front
    dtype: torch.dtype = torch.float32
    maps: dict[int, tuple[Map, Map]] = field(default_factory=dict)
    shift: dict[int, Tensor] = field(default_factory=dict)
    module: GraphModule = field(init=False)

    def __post_init__(self) -> None:
        self.module = GraphModule(self.front.network, self.dtype)
        for k, node in enumerate(self.front.network.nodes, 1):
            if isinstance(node.op, AbstractLinear):
                forward = self.module.linear[k - 1]
                self.maps[k] = _back(node.op, forward, self.dtype), forward
                if node.op.b is not None:
                    self.shift[k] = torch.from_numpy(np.array(node.op.b)).to(self.dtype)

    def __call__(
        self, rows: Sequence[Row], *, steps: int = STEPS, until: float | None = 0.0, scalars: bool = True
    ) -> list[Found]:
        """The best slopes that are found for each row.

        Args:
            until: stop where every row stays above this.
            scalars: False leaves out the coupling by the ball: alpha-CROWN.
        """
        caps = _Caps.of([row.spread for row in rows], self.dtype)
        L = torch.from_numpy(np.stack([-row.row for row in rows])).to(self.dtype)
        state = _State(self, caps, L, scalars)
        state.start([row.start for row in rows])
        best = state.best()
        parameters = [state.slopes[k] for k in caps.order]
        if not parameters:  # nothing but linear maps
            best.take(state, state.above())
            return best.found(caps)
        optimiser = torch.optim.Adam(parameters, lr=RATE)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.1 ** (step / max(steps, 1)))
        for _ in range(steps):
            if until is not None and bool((best.least > until).all()):
                break
            optimiser.zero_grad(set_to_none=True)
            above = state.above()
            best.take(state, above)
            above.sum().backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            best.take(state, state.above())
        return best.found(caps)


@dataclass(eq=False)
class _Caps:
    """Where the arguments of each activation are, a row of the batch each."""

    order: tuple[int, ...]
    center: dict[int, Rows]
    low: dict[int, Rows]
    high: dict[int, Rows]
    left: dict[int, Rows]
    right: dict[int, Rows]
    free: dict[int, Tensor]
    radius: dict[int, Tensor]
    x: Rows
    reach: Tensor

    @staticmethod
    def of(spreads: Sequence[Spread], dtype: torch.dtype) -> "_Caps":
        order = tuple(spreads[0].caps)

        def stacked(name: str, k: int) -> Tensor:
            return torch.from_numpy(np.stack([vars(s.caps[k])[name] for s in spreads])).to(dtype)

        parts: dict[str, dict[int, Tensor]] = {
            name: {k: stacked(name, k) for k in order} for name in ("center", "low", "high", "left", "right")
        }
        free = {}
        for k in order:
            mask = np.zeros((len(spreads), len(spreads[0].caps[k].low)), bool)
            for row, s in zip(mask, spreads, strict=True):
                row[s.caps[k].free] = True
            free[k] = torch.from_numpy(mask)
        radius = {k: torch.tensor([s.caps[k].radius for s in spreads], dtype=dtype) for k in order}
        x = torch.from_numpy(np.stack([s.region.center for s in spreads])).to(dtype)
        reach = torch.tensor([s.region.radius for s in spreads], dtype=dtype)
        return _Caps(order, **parts, free=free, radius=radius, x=x, reach=reach)


@dataclass(eq=False)
class _State:
    """Slopes, scalars and the bound that they give."""

    search: Search
    caps: _Caps
    L: Rows
    scalars: bool
    slopes: dict[int, Tensor] = field(default_factory=dict)
    scale: dict[int, Tensor] = field(default_factory=dict)
    loss: dict[int, Tensor] = field(default_factory=dict)
    fresh: bool = True

    def start(self, given: Sequence[Found | None]) -> None:
        """The lines of CROWN, or those of a search before."""
        caps = self.caps
        for k in caps.order:
            self.slopes[k] = torch.zeros_like(caps.low[k])
            self.scale[k] = torch.zeros(len(self.L), dtype=self.L.dtype)
        with torch.no_grad():
            self.above()
        self.fresh = False
        for r, found in enumerate(given):
            if found is not None:
                for k, slopes, scale in zip(caps.order, found.slopes, found.scale, strict=True):
                    self.slopes[k][r] = torch.from_numpy(slopes).to(self.L.dtype)
                    self.scale[k][r] = scale
        for k in caps.order:
            self.slopes[k].requires_grad_(True)

    def best(self) -> "_Best":
        return _Best(torch.full((len(self.L),), -torch.inf, dtype=self.L.dtype), {}, {}, {})

    def above(self) -> Tensor:
        """The largest value of each row on its ball, about."""
        network = self.search.front.network
        at, total = {network.output: self.L}, torch.zeros(len(self.L), dtype=self.L.dtype)
        for k in range(network.output, 0, -1):
            if k not in at:
                continue
            L, node = at.pop(k), network.made(k)
            if k in self.search.maps:
                if k in self.search.shift:
                    total = total + L @ self.search.shift[k]
                back, forward = self.search.maps[k]
                _put(at, node.inputs[0], _Back.apply(L, back, forward))
            elif isinstance(node.op, Sum):
                for sign, i in zip(node.op.signs, node.inputs, strict=True):
                    _put(at, i, sign * L)
            elif isinstance(node.op, Concatenate):
                for part, i in zip(L.split(list(node.op.lengths), 1), node.inputs, strict=True):
                    _put(at, i, part)
            else:
                G, added = self._through(k, L)
                total = total + added
                _put(at, node.inputs[0], G)
        if 0 in at:
            g = at[0]
            total = total + (g * self.caps.x).sum(1) + self.caps.reach * torch.linalg.vector_norm(g, dim=1)
        return total

    def _through(self, k: int, L: Rows) -> tuple[Rows, Tensor]:
        caps = self.caps
        low, high, left, right, free = caps.low[k], caps.high[k], caps.left[k], caps.right[k], caps.free[k]
        if self.fresh:
            chord = ((right * high - left * low) / (high - low).clamp(min=1e-30)).nan_to_num()
            near = torch.where(high >= -low, right, left)
            convex = right >= left
            self.slopes[k] = torch.where((L > 0) == convex, chord, near)
        side = torch.where(low >= 0, right, left)
        G = L * torch.where(free, self.slopes[k], side)
        a, b = L * right - G, L * left - G
        with torch.no_grad():
            if self.scalars:
                self._rescale(k, a, b)
        value = self._value(k, a, b, self.scale[k])
        if not self.scalars:
            return G, value.sum(1)
        scale = self.scale[k]
        coupled = value.sum(1) + scale / 2 * caps.radius[k] ** 2
        with torch.no_grad():
            here = caps.center[k]
            self.loss[k] = value - torch.where(here > 0, a, b) * here * free
        return G, coupled

    def _value(self, k: int, a: Rows, b: Rows, scale: Tensor) -> Rows:
        """The largest value of each free entry."""
        caps, found = self.caps, []
        for slope, (start, end) in ((a, self._right(k)), (b, self._left(k))):
            t = self._furthest(slope, scale, start, end)
            value = slope * (caps.center[k] + t) - (scale / 2)[:, None] * t * t
            found.append(torch.where(start <= end, value, torch.full_like(value, -torch.inf)))
        return torch.where(caps.free[k], torch.maximum(*found), torch.zeros_like(a))

    def _right(self, k: int) -> tuple[Rows, Rows]:
        c = self.caps.center[k]
        return torch.maximum(self.caps.low[k] - c, -c), self.caps.high[k] - c

    def _left(self, k: int) -> tuple[Rows, Rows]:
        c = self.caps.center[k]
        return self.caps.low[k] - c, torch.minimum(self.caps.high[k] - c, -c)

    @staticmethod
    @torch.no_grad()
    def _furthest(slope: Rows, scale: Tensor, start: Rows, end: Rows) -> Rows:
        t = (slope / scale[:, None]).nan_to_num(0.0, torch.inf, -torch.inf)
        return torch.minimum(torch.maximum(t, start), end)

    def _rescale(self, k: int, a: Rows, b: Rows) -> None:
        """The scalars by the fixed point, warm from the step before."""
        caps, radius = self.caps, self.caps.radius[k].clamp(min=1e-30)
        a, b = (torch.where(caps.free[k], x, torch.zeros_like(x)) for x in (a, b))
        first = torch.linalg.vector_norm(torch.maximum(a.abs(), b.abs()), dim=1) / radius
        unset = self.scale[k] <= 0
        scale = torch.where(unset, first, self.scale[k])
        right, left = self._right(k), self._left(k)
        for _ in range(8 if bool(unset.any()) else WARM):
            far, most = torch.zeros_like(a), torch.full_like(a, -torch.inf)
            for slope, (start, end) in ((a, right), (b, left)):
                t = self._furthest(slope, scale, start, end)
                value = slope * (caps.center[k] + t) - (scale / 2)[:, None] * t * t
                value = torch.where(start <= end, value, torch.full_like(value, -torch.inf))
                far, most = torch.where(value > most, t, far), torch.maximum(value, most)
            far = torch.where(caps.free[k], far, torch.zeros_like(far))
            scale = scale * (torch.linalg.vector_norm(far, dim=1) / radius).clamp(0.05, 20.0)
        self.scale[k] = torch.where(scale > first * 1e-6, scale, torch.zeros_like(scale))


@dataclass(eq=False)
class _Best:
    """The best of each row so far."""

    least: Tensor
    slopes: dict[int, Tensor]
    scale: dict[int, Tensor]
    loss: dict[int, Tensor]

    @torch.no_grad()
    def take(self, state: _State, above: Tensor) -> None:
        better = -above > self.least
        self.least = torch.where(better, -above, self.least)
        for mine, new in ((self.slopes, state.slopes), (self.scale, state.scale), (self.loss, state.loss)):
            for k, v in new.items():
                at = better[:, None] if v.ndim > 1 else better
                mine[k] = torch.where(at, v.detach(), mine[k]) if k in mine else v.detach().clone()

    def found(self, caps: _Caps) -> list[Found]:
        def of(k: int, r: int, kept: Mapping[int, Tensor]) -> np.ndarray:
            return kept[k][r].double().numpy()

        return [
            Found(
                tuple(of(k, r, self.slopes) for k in caps.order),
                tuple(float(self.scale[k][r]) for k in caps.order),
                float(self.least[r]),
                tuple(of(k, r, self.loss) for k in caps.order if k in self.loss),
            )
            for r in range(len(self.least))
        ]


class _Back(torch.autograd.Function):
    """A transposed map, whose gradient is the map."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, back: Map, forward: Map) -> Tensor:
        ctx.map = forward
        return back(y)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.map(gradients[0]), None, None


def _back(op: AbstractLinear, forward: Map, dtype: torch.dtype) -> Map:
    """The transposed map."""
    if isinstance(op, Dense):
        W = torch.from_numpy(np.array(op.W)).to(dtype)
        return lambda y: y @ W
    plain = isinstance(op, Convolution) and len(op.image_size) == 2 and not op.circular
    if isinstance(op, Convolution) and plain:
        return _transposed(op, dtype)
    transposed = adjoint(forward, op.inputs)
    return lambda y: transposed(y.detach()).detach()


def _transposed(op: Convolution, dtype: torch.dtype) -> Map:
    K = torch.from_numpy(np.array(op.K)).to(dtype)
    padded = [h + sum(p) for h, p in zip(op.image_size, op.pads, strict=True)]
    made = [
        (n - 1) * s + d * (t - 1) + 1
        for n, s, d, t in zip(op.output_size, op.stride, op.dilation, op.K.shape[2:], strict=True)
    ]
    more = [full - h for full, h in zip(padded, made, strict=True)]
    (top, _), (side, _) = op.pads
    height, width = op.image_size

    def back(y: Rows) -> Rows:
        image = F.conv_transpose2d(
            y.reshape(len(y), len(op.K), *op.output_size), K, None, op.stride, 0, 0, op.groups, op.dilation
        )
        image = F.pad(image, (0, more[1], 0, more[0]))
        return image[:, :, top : top + height, side : side + width].reshape(
            len(y), prod((op.channels, height, width))
        )

    return back


def _put(at: dict[int, Tensor], i: int, L: Rows) -> None:
    at[i] = at[i] + L if i in at else L
