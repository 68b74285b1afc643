"""A torus with a ball in its hole, rendered by steps that cannot pass a surface, beside a plain network whose steps do.

Sphere tracing goes along a ray by the distance that a field f promises. Where f has the proven constant L, steps of f / L never
pass the zero of f, for |f(x)| / L is at most the distance to it. With points p_i of the *true* surface, of which every place of it
has one within h, and delta = max f(p_i) + L h, steps of (f - delta) / L never enter the true shape either. Both networks learn
the true distances by their mean absolute error; of the plain one no useful L is known, so its steps are f as it is.
"""

import numpy as np
import torch
from exhibit import bare, panels, save, show
from matplotlib.colors import to_rgb
from torch import nn

from sdplip.nn import LastLayerNormalised, MaxMin, PadChannels, lipschitz, orthogonal
from sdplip.plot.style import PALETTE
from sdplip.robustness.fields import safe_margin

TOLERANCE = 0.0
RING, TUBE, BALL, NEAR = 0.5, 0.2, 0.17, 1e-3


def distance(p: np.ndarray) -> np.ndarray:
    """Exact outside of the shape."""
    torus = np.hypot(np.hypot(p[:, 0], p[:, 1]) - RING, p[:, 2]) - TUBE
    return np.minimum(torus, np.linalg.norm(p, axis=1) - BALL)


def on(u, v, ring: float, tube: float) -> np.ndarray:
    """Points of a torus; of a ball where the ring has no radius."""
    r = ring + tube * np.cos(v)
    return np.stack([r * np.cos(u), r * np.sin(u), tube * np.sin(v)], -1).reshape(-1, 3)


def covering(n: int) -> tuple[np.ndarray, float]:
    """Points of the surface, and how far a place of it may be from the nearest one."""
    grids = np.meshgrid(np.arange(2 * n) * np.pi / n, np.arange(n) * 2 * np.pi / n)
    h = np.hypot((RING + TUBE) * np.pi / (2 * n), TUBE * np.pi / n)  # half a cell along either angle
    return np.concatenate([on(*grids, RING, TUBE), on(*grids, 0.0, BALL)]), float(h)


def train(field: nn.Module, steps: int) -> nn.Module:
    rng = np.random.default_rng(0)
    u, v = rng.uniform(0, 2 * np.pi, (2, 30_000))
    near = np.concatenate([on(u, v, RING, TUBE), on(u, v, 0.0, BALL)])
    x = np.concatenate([rng.uniform(-1, 1, (40_000, 3)), near + rng.normal(size=near.shape) * 0.04])
    X, Y = torch.tensor(x, dtype=torch.float32), torch.tensor(distance(x), dtype=torch.float32)
    optimizer = torch.optim.Adam(field.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(steps):
        i = torch.randint(len(X), (512,))
        loss = (field(X[i])[:, 0] - Y[i]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return field.double().eval()


@torch.no_grad()
def trace(field, step, n: int):
    """Where the rays end, whether they hit, pass the zero of the field, or enter the true shape; `step` says how far to go."""
    camera, back = np.array([0.0, -1.25, 1.45]), np.array([0.0, 1.25, -1.45]) / np.hypot(1.25, 1.45)
    up = np.cross([1.0, 0, 0], back)
    u, v = np.meshgrid(np.linspace(-0.44, 0.44, n), np.linspace(0.31, -0.39, n))
    rays = (back + u[..., None] * [1.0, 0, 0] + v[..., None] * up).reshape(-1, 3)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    t, alive = np.zeros(n * n), np.ones(n * n, bool)
    hit, through, inside = (np.zeros(n * n, bool) for _ in range(3))
    while alive.any():
        i = np.flatnonzero(alive)
        x = torch.from_numpy(camera + t[i, None] * rays[i])
        ahead = step(x)
        through[i] |= field(x)[:, 0].numpy() < -NEAR
        inside[i] |= distance(x.numpy()) < 0
        hit[i] = ahead < NEAR
        t[i] += np.maximum(ahead, 0)
        alive[i] = ~hit[i] & (t[i] < 4)
    return camera + t[:, None] * rays, hit, through, inside


def main(quick=False, out=None):
    width, depth, steps, n = (16, 2, 100, 40) if quick else (64, 6, 4000, 160)
    torch.manual_seed(0)
    blocks = [m for _ in range(depth) for m in (orthogonal(nn.Linear(width, width), "cayley"), MaxMin())]
    ours = train(nn.Sequential(PadChannels(width - 3), *blocks, LastLayerNormalised(width, 1)), steps)
    hidden = [m for _ in range(3) for m in (nn.Linear(width, width), nn.ReLU())]
    plain = train(nn.Sequential(nn.Linear(3, width), nn.ReLU(), *hidden, nn.Linear(width, 1)), 2 * steps)
    surface, h = covering(100 if quick else 300)
    margin = safe_margin(ours, torch.from_numpy(surface), h)
    L, their_L = margin.bound.value, lipschitz(plain, input_shape=(3,)).value
    steps_of = (lambda x: ours(x)[:, 0].numpy() / L, lambda x: plain(x)[:, 0].numpy(), margin.clearance)
    views = [trace(field, step, n) for field, step in zip((ours, plain, ours), steps_of, strict=True)]
    print(f"L = {L:.8f}, delta = {margin.high:.4f}; of the plain network L <= {their_L:.1f}")
    x = np.random.default_rng(1).uniform(-1, 1, (10_000, 3))
    for name, field, view in zip(("1-Lipschitz", "plain"), (ours, plain), views, strict=False):
        error = abs(field(torch.from_numpy(x)).detach()[:, 0].numpy() - distance(x)).mean()
        print(f"{name}: mean error {error:.4f}, rays through its own surface {view[2].sum()} of {n * n}")
    if out:
        draw((ours, plain), views, n, out)
    computed = {"rays through its surface": views[0][2].sum(), "rays into the true shape": views[2][3].sum()}
    return computed, dict.fromkeys(computed, 0.0)


def draw(fields, views, n, out) -> None:
    figure, axes = panels(2, size=(8.6, 3.7))
    for panel, field, (x, hit, through, _), name in zip(
        axes, fields, views, ("1-Lipschitz", "plain"), strict=False
    ):
        z = torch.from_numpy(x).requires_grad_()
        (normal,) = torch.autograd.grad(field(z).sum(), z)
        shade = 0.25 + 0.75 * np.clip(
            (nn.functional.normalize(normal) @ torch.tensor([0.3, -0.5, 0.8]).double()).numpy(), 0, 1
        )
        picture = np.where(hit[:, None], shade[:, None] * to_rgb(PALETTE[5]), to_rgb(panel.get_facecolor()))
        picture[through] = to_rgb(PALETTE[1])
        panel.imshow(picture.reshape(n, n, 3), interpolation="nearest", aspect=0.35 / 0.44)
        panel.set_title(f"{name}: {through.sum():,} of {n * n:,} rays through the surface")
        bare(panel)
    save(figure, out, __file__, axes[0])


if __name__ == "__main__":
    show(main, TOLERANCE)
