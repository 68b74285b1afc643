"""Circles that a silhouette provably does not enter, from labels "inside" and "outside" alone.

A 1-Lipschitz network learns the signed distance of scikit-image's horse by the hKR loss (Coiffier and Bethune 2024, arXiv
2407.09505). With points p_i of the outline, of which every place of it has one within h, and delta = max f(p_i) + L h,

    f(x) - delta <= L d(x)   for every x,

d the distance to the true outline: its nearest place p has f(x) <= f(p) + L d(x) and f(p) <= max f(p_i) + L h. So the outline
does not enter the circle of radius (f(x) - delta) / L around x, whether training went well or not; likewise inside, with the
least value. `safe_margin` counts the rounding of the evaluations too.
"""

import numpy as np
import torch
from exhibit import PAPER, bare, panels, save, show
from matplotlib.collections import PatchCollection
from matplotlib.patches import Circle, Polygon
from matplotlib.path import Path
from skimage import data, measure
from torch import nn

from sdplip.nn import LastLayerNormalised, MaxMin, PadChannels, orthogonal
from sdplip.nn.losses import HKR
from sdplip.plot.style import INK, PALETTE
from sdplip.robustness.fields import safe_margin

TOLERANCE = 1e-5


def horse() -> np.ndarray:
    """The outline as a polygon, (edges, 2), within the square [-0.8, 0.8]^2."""
    picture = np.pad(~data.horse(), 20).astype(float)
    outline = max(measure.find_contours(picture, 0.5), key=len)[:-1:2, ::-1] * (1, -1)
    outline -= (outline.max(0) + outline.min(0)) / 2
    return outline * (0.8 / abs(outline).max())


def distance(points: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Exact distances of (n, 2) points to the polygon with the corners A."""
    if len(points) > 1000:
        return np.concatenate([distance(part, A) for part in np.array_split(points, len(points) // 500)])
    edges, w = np.roll(A, -1, 0) - A, points[:, None] - A
    along = np.clip((w * edges).sum(-1) / (edges * edges).sum(-1), 0, 1)
    return np.linalg.norm(w - along[..., None] * edges, axis=-1).min(1)


def covering(A: np.ndarray, parts: int) -> tuple[np.ndarray, float]:
    """Points of the outline, and how far a place of it may be from the nearest one."""
    edges = np.roll(A, -1, 0) - A
    points = A[:, None] + edges[:, None] * ((np.arange(parts) + 0.5) / parts)[:, None]
    return points.reshape(-1, 2), float(np.linalg.norm(edges, axis=1).max()) / (2 * parts)


def train(A: np.ndarray, width: int, depth: int, steps: int) -> nn.Module:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    near = A[rng.integers(len(A), size=30_000)] + rng.normal(size=(30_000, 2)) * 0.03
    x = torch.tensor(np.concatenate([rng.uniform(-1, 1, (60_000, 2)), near]), dtype=torch.float32)
    within = torch.from_numpy(Path(A).contains_points(x.numpy()))
    sides, labels = (x[within], x[~within]), torch.arange(2).repeat_interleave(256)
    blocks = [m for _ in range(depth) for m in (orthogonal(nn.Linear(width, width), "cayley"), MaxMin())]
    field = nn.Sequential(PadChannels(width - 2), *blocks, LastLayerNormalised(width, 1))
    optimizer = torch.optim.Adam(field.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for step in range(steps):
        weight = 1 if step < 0.05 * steps else 10 if step < 0.2 * steps else 30
        batch = torch.cat([side[torch.randint(len(side), (256,))] for side in sides])
        loss = HKR(alpha=weight / (1 + weight), margin=0.02)(field(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return field.double().eval()


def main(quick=False, out=None):
    A = horse()
    field = train(A, *(16, 2, 150) if quick else (96, 5, 3000))
    surface, h = covering(A, 4)
    margin = safe_margin(field, torch.from_numpy(surface), h)
    side = np.linspace(-1, 1, 60 if quick else 240)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    with torch.no_grad():
        f = field(torch.from_numpy(grid))[:, 0].numpy()
    d, radius = distance(grid, A), margin.clearance(torch.from_numpy(grid))
    error = abs(f - np.where(Path(A).contains_points(grid), -d, d)).mean()
    print(
        f"{margin.bound.value:.8f}-Lipschitz, f on the outline in [{margin.low:.4f}, {margin.high:.4f}], rounding {margin.rounding}"
    )
    print(f"mean error of f {error:.4f}, circles around {np.count_nonzero(radius)} of {len(grid)} points")
    if out:
        draw(A, side, grid, f, radius, out)
    computed = {"circles that meet the outline": np.count_nonzero(radius > d), "L": margin.bound.value}
    return computed, dict(zip(computed, (0, 1), strict=True))


def draw(A, side, grid, f, radius, out) -> None:
    figure, (left, right) = panels(2, size=(8.6, 4.3))
    colours = left.contourf(
        side, side, f.reshape(len(side), -1), np.linspace(-0.6, 0.6, 25), cmap="PuOr", extend="both"
    )
    left.contour(side, side, f.reshape(len(side), -1), [0], colors="white", linewidths=1.2)
    left.add_patch(Polygon(A, fill=False, edgecolor=INK, linewidth=1.2))
    figure.colorbar(colours, ax=left, shrink=0.8, ticks=[-0.5, 0, 0.5])
    left.set_title("learned field f; white: f = 0, black: the outline")
    circles, within, order, left_over = [], [], np.argsort(-radius), radius.copy()
    for i in order:  # greedily: the largest circle whose centre lies in none of the others
        if left_over[i] > 0.012:
            (circles if f[i] > 0 else within).append(Circle(grid[i], radius[i]))
            left_over[np.linalg.norm(grid - grid[i], axis=1) < radius[i]] = 0
    right.add_patch(Polygon(A, facecolor=INK, edgecolor=PAPER, linewidth=0.5))
    for chosen, colour in ((circles, PALETTE[5]), (within, PALETTE[4])):
        patches = PatchCollection(chosen, facecolor=colour, edgecolor=colour, alpha=0.35, linewidth=0.8)
        right.add_collection(patches)
    right.set_title(f"{len(circles) + len(within)} circles that it provably does not cross")
    for axes in (left, right):
        bare(axes)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    save(figure, out, __file__, right)


if __name__ == "__main__":
    show(main, TOLERANCE)
