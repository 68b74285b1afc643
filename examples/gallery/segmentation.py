"""A segmenter of the coins of Pompeii with a certified radius at every pixel, and one certificate for all pixels together.

Trained on the left of scikit-image's photograph, certified on the right. The network is 1-Lipschitz for every image size, so a change
of length eps that flips the pixels of a set S has to pay sum over S of r(p)^2 <= eps^2: cheapest first, added up.
"""

from dataclasses import replace

import numpy as np
import torch
from exhibit import bare, panels, save, show
from scipy import ndimage
from skimage import data, filters, morphology, segmentation
from torch import nn

from sdplip.nn import Normalise, PadChannels, ResidualConv2d, lipschitz, rescaled
from sdplip.plot.style import INK, PALETTE
from sdplip.robustness import certify_dense, minimise

TOLERANCE = 1e-6
SPLIT, SIDE = 240, 48


def coins() -> tuple[torch.Tensor, torch.Tensor]:
    """The photograph, `(300, 384)` in [0, 1], and where the coins are, by a watershed."""
    image = data.coins()[:300, :384]
    seeds = np.where(image < 30, 1, np.where(image > 150, 2, 0))
    found = ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(image), seeds) == 2)
    mask = morphology.opening(found, morphology.disk(3))
    return torch.from_numpy(image / np.float32(255)), torch.from_numpy(mask.astype(np.int64))


def crops(
    image, mask, n: int, left: int, right: int, g: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(0, len(image) - SIDE, (n,), generator=g).tolist()
    columns = torch.randint(left, right - SIDE, (n,), generator=g).tolist()
    cut = [(slice(r, r + SIDE), slice(c, c + SIDE)) for r, c in zip(rows, columns, strict=True)]
    return torch.stack([image[at] for at in cut])[:, None], torch.stack([mask[at] for at in cut])


def network(blocks: int) -> nn.Module:
    """A U without skips: shuffling pixels between axes is an isometry."""
    deep = [ResidualConv2d(128, 32, 3) for _ in range(blocks)]
    return nn.Sequential(
        Normalise([0.4]), PadChannels(7), ResidualConv2d(8, 8, 3), nn.PixelUnshuffle(2), ResidualConv2d(32, 16, 3), nn.PixelUnshuffle(2),
        *deep, nn.PixelShuffle(2), ResidualConv2d(32, 16, 3), nn.PixelShuffle(2), ResidualConv2d(8, 8, 3), rescaled(nn.Conv2d(8, 1, 1)),
    )  # fmt: skip


def train(image, mask, blocks: int, steps: int) -> nn.Module:
    torch.manual_seed(0)
    g, model = torch.Generator().manual_seed(0), network(blocks)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    for _ in range(steps):
        x, y = crops(image, mask, 16, 0, SPLIT, g)
        loss = nn.functional.softplus((0.15 - model(x)[:, 0] * (2 * y - 1)) / 0.03).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def main(quick=False, out=None):
    image, mask = coins()
    model = train(image, mask, *(1, 8) if quick else (2, 220))
    x, y = crops(image, mask, 4 if quick else 30, SPLIT, image.shape[1], torch.Generator().manual_seed(9))
    found, few = certify_dense(model, x, y), slice(0, 4 if quick else 10)
    some, sides, broken, left = replace(found, images=found.images[few]), 2 * y[few] - 1, 0, []
    radii = (0.25, 1.0) if quick else (0.1, 0.25, 0.5, 1.0, 1.5, 2.0)
    for eps in radii:
        hit = minimise(
            lambda z: torch.sigmoid(model(z)[:, 0] * sides / 0.05).flatten(1).sum(1), x[few], eps, steps=4 if quick else 15, restarts=1,
            box=(0, 1),
        )  # fmt: skip
        left.append(float((model(hit.x)[:, 0] * sides > 0).double().mean()))
        broken += left[-1] < some.accuracy(eps)
        print(f"eps {eps}: each pixel {found.each_pixel(eps):.4f}, together {found.accuracy(eps):.4f}, IoU of coins {found.iou(eps)[1]:.4f};"
              f" first images: together {some.accuracy(eps):.4f}, left by the attack {left[-1]:.4f}")  # fmt: skip
    L = lipschitz(model).value
    print(f"clean {found.clean:.4f}, IoU of coins {found.iou(0)[1]:.4f}, L = {L:.8f} on every size")
    if out:
        draw(image, certify_dense(model, [image[None]], [mask]), found, radii, left, out)
    numbers = ("attacks below a certificate", "excess of L above 1")
    return dict(zip(numbers, (broken, max(L - 1, 0)), strict=True)), dict.fromkeys(numbers, 0.0)


def draw(image, whole, found, radii, left, out) -> None:
    figure, (photograph, picture, curve) = panels(3, size=(9.2, 2.8), width_ratios=(1, 1.14, 1))
    photograph.imshow(image, cmap="gray")
    photograph.contour(whole.prediction[0], [0.5], colors=[PALETTE[1]], linewidths=0.9)
    photograph.axvline(SPLIT, color="white", linewidth=1.5, linestyle="--")
    photograph.set_title("coins found; trained left of the line")
    shown = picture.imshow(whole.radius[0], vmax=0.5)
    figure.colorbar(shown, ax=picture, shrink=0.85)
    picture.set_title("certified radius of each pixel")
    grid = np.linspace(0, radii[-1], 60)
    curve.plot(grid, [100 * found.accuracy(r) for r in grid], color=PALETTE[0], label="all pixels together")
    curve.plot(
        grid,
        [100 * found.each_pixel(r) for r in grid],
        color=PALETTE[2],
        linestyle="--",
        label="each pixel by itself",
    )
    curve.plot(radii, 100 * np.array(left), "v", color=INK, label="left by an attack (10 crops)")
    curve.set(xlabel="length of the change of a crop", ylabel="right pixels (%)", ylim=(0, 100))
    curve.grid(visible=True)
    curve.legend(loc="center right", bbox_to_anchor=(1, 0.3))
    for axes in (photograph, picture):
        bare(axes)
    save(figure, out, __file__, picture)


if __name__ == "__main__":
    show(main, TOLERANCE)
