"""How far may a query move while "more like a than like b" stays true? The half-space of a metric against its published radius.

A 1-Lipschitz embedding of scikit-learn's digits, and LipSim's metric (Ghazanfari et al., ICLR 2024), the cosine of (f, 1). The query
is nearer to a than to b on one side of a plane, so the distance of f to that plane is a radius; the published one divides the query
by its length first and loses that factor. Same network, same proof, other formula. Pixels are an embedding with constant 1, too.
"""

import numpy as np
import torch
from brittle import digits, train
from exhibit import bare, panels, save, show
from torch import nn

from sdplip.nn import LastLayerNormalised, MaxMin, UnitSphere, lipschitz, orthogonal
from sdplip.nn.losses import CrossEntropy
from sdplip.plot.style import INK, PALETTE
from sdplip.robustness import anchored_radius, embed, half_space_radius, minimise

TOLERANCE = 1e-9


def triples(y: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, others of the same class, others of another one."""
    i, a, b = np.random.default_rng(0).integers(0, len(y), (3, 40 * n))
    some = np.flatnonzero((y[i] == y[a]) & (y[i] != y[b]) & (i != a))[:n]
    return i[some], a[some], b[some]


def main(quick=False, out=None):
    x, y = digits()
    torch.manual_seed(0)
    blocks = [m for _ in range(2) for m in (orthogonal(nn.Linear(64, 64), "cayley"), MaxMin())]
    body = nn.Sequential(*blocks, orthogonal(nn.Linear(64, 32), "cayley"))
    train(
        nn.Sequential(body, LastLayerNormalised(32, 10)),
        CrossEntropy(3.0),
        x[:1400],
        y[:1400],
        30 if quick else 600,
    )
    model, x, labels = body.double().eval(), x[1400:].double(), y[1400:].numpy()
    i, a, b = triples(labels, 100 if quick else 2000)
    e = embed(model, x)
    f, options = e.values, {"metric": "lipsim", "error": e.error[i]}
    ours = half_space_radius(f[i], f[a], f[b], e.constant, **options)
    with torch.no_grad():
        h = nn.Sequential(model, UnitSphere())
        u = (h(x[a]) - h(x[b])).numpy()
        published = (h(x[i]).numpy() * u).sum(1) / np.linalg.norm(u, axis=1) / lipschitz(h).value
    pixels = half_space_radius(x[i], x[a], x[b], 1.0, metric="euclid")
    few = slice(0, 50 if quick else 300)
    away = torch.from_numpy(abs(ours[few]) * 0.999)
    side = torch.from_numpy(np.sign(ours[few])[:, None] * u[few])
    hit = minimise(lambda z: (h(z) * side).sum(1), x[i[few]], away, steps=20, restarts=1)
    for r in (0.0, 0.25, 0.5, 1.0):
        print(
            f"right at {r}: published {(published > r).mean():.3f}, half-space {(ours > r).mean():.3f}, pixels {(pixels > r).mean():.3f}"
        )
    found = anchored_radius(f[:100], f[100:], labels[100:], e.constant, error=e.error[:100])
    print(
        f"retrieval: {(found.label == labels[:100]).mean():.3f} right, mean radius {found.radius.mean():.3f}"
    )
    if out:
        draw(
            x,
            found,
            {
                "half-space of the metric": ours,
                "published radius of the metric": published,
                "pixels, bisector": pixels,
            },
            out,
        )
    broken = int((hit.margin.numpy() <= 0)[ours[few] != 0].sum()) + int(
        (abs(ours) < abs(published) - 1e-9).sum()
    )
    return {"answers changed, or radii below the published": float(broken)}, {
        "answers changed, or radii below the published": 0.0
    }


def draw(x, found, radii, out) -> None:
    figure, (curve, strip) = panels(2, size=(8.4, 3.6), width_ratios=(1.25, 1))
    grid = np.linspace(0, 1.6, 200)
    styles = zip(radii.items(), (PALETTE[0], PALETTE[1], PALETTE[2]), ("-", "--", "-."), strict=True)
    for (name, r), colour, line in styles:
        curve.plot(grid, [100 * (r > eps).mean() for eps in grid], color=colour, linestyle=line, label=name)
    curve.set(xlabel="length of the change", ylabel="triples certified right (%)", ylim=(0, 102))
    curve.grid(visible=True)
    curve.legend(loc="upper right", bbox_to_anchor=(1, 0.95))
    picture = np.ones((2 * 9 + 1, 6 * 9))
    for k in range(6):
        for row, n in enumerate((k, 100 + found.nearest[k])):
            picture[row * 10 : row * 10 + 8, k * 9 : k * 9 + 8] = 1 - x[n].reshape(8, 8)
        strip.text(
            k * 9 + 3.5, 20.5, f"{found.radius[k]:.2f}", ha="center", va="center", color=INK, fontsize=8.5
        )
    strip.imshow(picture, cmap="gray", extent=(-0.5, 53.5, 18.5, -0.5))
    strip.set(title="queries, nearest anchors, certified radius", ylim=(22, -0.5))
    bare(strip)
    save(figure, out, __file__, curve)


if __name__ == "__main__":
    show(main, TOLERANCE)
