"""The search behind `inverse`: Banach's iteration, Newton's method, and both along a sequence of modules. Nothing here is trusted."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.nn.bilipschitz import BiLipschitz
from sdplip.nn.bounds.dispatch import Shape
from sdplip.nn.containers import Residual

SOON = 30
"""Iterations of Banach after which Newton's method is tried."""
STEPS = 30
"""Steps of Newton's method, at most."""
DENSE = 256
"""Entries of a sample up to which Newton's method solves with the Jacobian itself; larger ones by conjugate gradients."""
PRODUCTS = 200
"""Products with the Jacobian and its transpose of one step, at most."""
HALVINGS = 12
"""Of a step of Newton's method that does not bring the value nearer."""

Map = Callable[[Tensor], Tensor]


@dataclass
class Search:
    """How near is near enough, how long to go on, and how often something was evaluated."""

    enough: float
    limit: int
    evaluations: int = 0

    def off(self, f: Map, x: Tensor, y: Tensor) -> tuple[Tensor, Float[Tensor, " batch"]]:
        """$f(x) - y$ and its lengths."""
        self.evaluations += 1
        with torch.no_grad():
            r = f(x) - y
        return r, r.flatten(1).norm(dim=1)


def preimage(f: nn.Module, y: Tensor, shape: Shape, enough: float, limit: int) -> tuple[Tensor, int]:
    """Points of shape `(batch, *shape)` at which f is within about `enough` of y, where that is found, and the evaluations of f or its parts."""
    search = Search(enough, limit)
    parts = _parts(f, shape)
    x = y
    for part, before in reversed(parts):
        x = _solved(part, x, before, search)
        if not bool(x.isfinite().all()):
            return x, search.evaluations
    return (_newton(f, y, x, search) if len(parts) > 1 else x), search.evaluations


def _parts(f: nn.Module, shape: Shape) -> list[tuple[nn.Module, Shape]]:
    """The modules of a chain, with the shape of a sample in front of each."""
    if not isinstance(f, nn.Sequential):
        return [(f, shape)]
    found, like = list[tuple[nn.Module, Shape]](), next((p for p in f.parameters()), torch.empty(0))
    x = torch.zeros(1, *shape, dtype=torch.float64, device=like.device)
    for child in f:
        before = tuple(x.shape[1:])
        with torch.no_grad():
            x = child(x)
        found += _parts(child, before)
    return found


def _solved(part: nn.Module, y: Tensor, shape: Shape, search: Search) -> Tensor:
    """Where one part takes the value y."""
    if not isinstance(part, BiLipschitz | Residual):
        return _newton(part, y, y.reshape(len(y), *shape), search)
    step = 1 / part.centre if isinstance(part, BiLipschitz) else 1.0
    soon = (
        min(SOON, search.limit) if y[0].numel() <= DENSE else search.limit
    )  # Newton's steps on long samples cost more
    x = _banach(part, y, y * step, step, search, soon)
    x = _newton(part, y, x, search)
    return _banach(part, y, x, step, search, search.limit - soon)


def _banach(f: Map, y: Tensor, x: Tensor, step: float, search: Search, limit: int) -> Tensor:
    r"""$x \leftarrow x - \mathrm{step} (f(x) - y)$ until that is near enough, or no longer comes nearer; of each sample the best point."""
    r, best = search.off(f, x, y)
    kept, stale = x, 0
    for _ in range(limit):
        if bool((best <= search.enough).all()) or stale >= 5:
            break
        x = x - step * r
        r, length = search.off(f, x, y)
        nearer = length < best
        stale = 0 if bool((length < 0.999 * best).any()) else stale + 1
        kept, best = _where(nearer, x, kept), torch.where(nearer, length, best)
    return kept


def _newton(f: Map, y: Tensor, x: Tensor, search: Search) -> Tensor:
    """Newton's method (semismooth at kinks), its step halved until the value comes nearer; of each sample the best point."""
    r, best = search.off(f, x, y)
    for _ in range(STEPS):
        if bool((best <= search.enough).all()):
            break
        d = _direction(f, x, r)
        moved, step = torch.zeros_like(best, dtype=torch.bool), 1.0
        for _ in range(HALVINGS):
            tried = x - step * d
            s, length = search.off(f, tried, y)
            nearer = (length < best) & ~moved
            x, r = _where(nearer, tried, x), _where(nearer, s, r)
            best, moved = torch.where(nearer, length, best), moved | nearer
            if bool((moved | (best <= search.enough)).all()):
                break
            step /= 2
        if not bool(moved.any()):
            break
    return x


def _where(choose: Float[Tensor, " batch"], a: Tensor, b: Tensor) -> Tensor:
    return torch.where(choose.reshape(-1, *(1,) * (a.ndim - 1)), a, b)


def _direction(f: Map, x: Tensor, r: Tensor) -> Tensor:
    """A solution d of $J d = r$ for each sample, in the least-squares sense."""
    n = x[0].numel()
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        value = f(x)
        if n <= DENSE:
            rows = [
                torch.autograd.grad(value.flatten(1)[:, k].sum(), x, retain_graph=True)[0] for k in range(n)
            ]
            J = torch.stack([row.flatten(1) for row in rows], 1)
            return torch.linalg.lstsq(J, r.flatten(1)[..., None]).solution[..., 0].reshape(x.shape)
        u = torch.zeros_like(value, requires_grad=True)
        (back,) = torch.autograd.grad(value, x, u, create_graph=True)  # J'u, which is linear in u

    def transposed(w: Tensor) -> Tensor:
        return torch.autograd.grad(value, x, w, retain_graph=True)[0]

    def forward(v: Tensor) -> Tensor:
        return torch.autograd.grad(back, u, v, retain_graph=True)[0]

    return _conjugate_gradients(forward, transposed, r)


def _conjugate_gradients(forward: Map, transposed: Map, r: Tensor) -> Tensor:
    """The least-squares solution of $J d = r$ of each sample, by conjugate gradients of the normal equations."""
    inner = lambda a, b: (a * b).flatten(1).sum(1)  # noqa: E731
    spread = lambda c, a: c.reshape(-1, *(1,) * (a.ndim - 1)) * a  # noqa: E731
    g = transposed(r)
    d, p, square = torch.zeros_like(g), g, inner(g, g)
    first = square.clone()
    for _ in range(PRODUCTS):
        if bool((square <= 1e-20 * first).all()):
            break
        q = forward(p)
        size = inner(q, q)
        alpha = torch.where(size > 0, square / torch.where(size > 0, size, 1.0), 0.0)
        d, r = d + spread(alpha, p), r - spread(alpha, q)
        g = transposed(r)
        new = inner(g, g)
        beta = torch.where(square > 0, new / torch.where(square > 0, square, 1.0), 0.0)
        p, square = g + spread(beta, p), new
    return d
