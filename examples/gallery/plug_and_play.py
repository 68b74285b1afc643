"""A blurred photograph restored by iterations that must converge, because the denoiser is a proven contraction.

Plug-and-play (Venkatakrishnan et al. 2013, Ryu et al. 2019): a gradient step of the data, then a denoiser. With D proven 1-Lipschitz
the step x -> (1 - t) z + t s D(z), z = x - tau A'(A x - y) with tau < 2 / |A|^2, is q-Lipschitz, q = 1 - t + t s < 1 for s < 1: it has
one fixed point, and the residual of one iteration bounds the distance to it. A plain denoiser promises nothing; it converged here just
as well. The photograph, the camera man, ships with scikit-image, like the three that the denoisers learn from.
"""

import numpy as np
import torch
from exhibit import bare, panels, save, show
from skimage import color, data
from torch import nn
from torch.nn.functional import avg_pool2d, pad

from sdplip.nn import FirstChannels, PadChannels, ResidualConv2d, lipschitz
from sdplip.plot.style import DASHES, INK, PALETTE
from sdplip.robustness.fixed_point import fixed_point

TOLERANCE = 0.0
SIDE, NOISE, WEIGHT, SHRINK = 96, 0.1, 0.1, 0.95


def photographs(side: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Three to learn from, and the one to restore, (1, 1, side, side)."""
    learn = [
        avg_pool2d(torch.tensor(color.rgb2gray(p), dtype=torch.float32)[None, None], 2)[0, 0]
        for p in (data.astronaut(), data.coffee(), data.chelsea())
    ]
    camera = torch.tensor(data.camera() / 255, dtype=torch.float32)[None, None]
    return learn, avg_pool2d(camera, 4)[..., 10 : 10 + side, 20 : 20 + side]


def lipschitz_denoiser(blocks: int = 4) -> nn.Module:
    return nn.Sequential(
        PadChannels(15), *(ResidualConv2d(16, 16, 3) for _ in range(blocks)), FirstChannels(1)
    )


def plain_denoiser() -> nn.Module:
    inner = [m for _ in range(2) for m in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), *inner, nn.Conv2d(16, 1, 3, padding=1))


def train(f: nn.Module, learn: list[torch.Tensor], steps: int, lr: float) -> nn.Module:
    rng, optimizer = np.random.default_rng(0), torch.optim.Adam(f.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    for _ in range(steps):
        k, i, j = rng.integers(3, size=16), *rng.integers(min(min(p.shape) for p in learn) - 32, size=(2, 16))
        x = torch.stack([learn[p][a : a + 32, b : b + 32] for p, a, b in zip(k, i, j, strict=True)])[:, None]
        loss = (f(x + NOISE * torch.randn(x.shape)) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return f.double().eval()


def blur(side: int) -> torch.Tensor:
    """The transform of a binomial blur of 5 x 5 with periodic borders: between 0 and 1 in absolute value, 1 at frequency 0."""
    row = torch.tensor([1.0, 4, 6, 4, 1], dtype=torch.float64) / 16
    kernel = pad(torch.outer(row, row)[None, None], (0, side - 5, 0, side - 5))
    return torch.fft.rfft2(kernel.roll((-2, -2), (2, 3)))


def filtered(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x) * by, x.shape[-2:])


def psnr(x: torch.Tensor, true: torch.Tensor) -> float:
    return float(-10 * (x.detach() - true).square().mean().log10())


def main(quick=False, out=None):
    side = 32 if quick else SIDE
    learn, true = photographs(side)
    F, true, seed = blur(side), true.double(), torch.Generator().manual_seed(4)
    y = filtered(true, F) + 0.01 * torch.randn(true.shape, generator=seed).double()
    noisy, results = true + NOISE * torch.randn(true.shape, generator=seed).double(), {}
    for name, make, steps, lr in (("1-Lipschitz", lipschitz_denoiser, 200, 1e-2), ("plain", plain_denoiser, 300, 3e-3)):  # fmt: skip
        torch.manual_seed(0)
        D = train(make(), learn, 5 if quick else steps, lr)
        L = lipschitz(D, input_shape=(1, side, side)).value
        q = 1 - WEIGHT + WEIGHT * SHRINK * L + 1e-12

        def step(x, D=D):
            z = x - 1.9 * filtered(filtered(x, F) - y, F.conj())
            return (1 - WEIGHT) * z + WEIGHT * (0.5 + SHRINK * (D(z) - 0.5))

        if q < 1:
            found = fixed_point(step, y, q, tolerance=1e-6, limit=20 if quick else 400)
            x, history = found.point, found.history
            print(f"{found.iterations} iterations, guaranteed {found.guaranteed}, error {found.error[0]:.1e}")
        else:  # `fixed_point` refuses
            x, history = y, []
            for _ in range(20 if quick else 400):
                x, before = step(x).detach(), x
                history.append(float((x - before).norm()))
        results[name] = (x, np.array(history), q)
        print(f"{name}: L <= {L:.6f}; noise {psnr(noisy, true):.2f} -> {psnr(D(noisy), true):.2f} dB")
        print(f"   restores {psnr(y, true):.2f} -> {psnr(x, true):.2f} dB; last change {history[-1]:.1e}")
    if out:
        draw(true, y, results, out)
    _, history, q = results["1-Lipschitz"]
    slower = float((history[1:] > q * history[:-1] + 1e-12).sum())
    promises = float(sum(rate < 1 for _, _, rate in results.values()))
    computed = {"iterations slower than proven": slower, "denoisers with a promise": promises}
    return computed, dict(zip(computed, (0.0, 1.0), strict=True))


def draw(true, y, results, out) -> None:
    figure, axes = panels(4, size=(10.4, 2.9), width_ratios=(1, 1, 1, 1.35))
    pictures = {"blurred": y} | {name: x for name, (x, _, _) in results.items()}
    for one, (name, picture) in zip(axes, pictures.items(), strict=False):
        one.imshow(picture[0, 0].detach().clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
        one.set_title(f"{name}: {psnr(picture, true):.1f} dB")
        bare(one)
    for (name, (_, history, q)), colour, dash in zip(
        results.items(), PALETTE, ("-", DASHES[0]), strict=False
    ):
        axes[3].semilogy(history, color=colour, linestyle=dash, label=name)
        if q < 1:
            rate = history[0] * q ** np.arange(len(history))
            axes[3].semilogy(rate, color=INK, linestyle=DASHES[1], label="proven rate")
    axes[3].set(xlabel="iteration", title="change of an iteration", xlim=(0, 300), ylim=(1e-9, 10))
    axes[3].legend(loc="upper right", bbox_to_anchor=(1.0, 0.86))
    save(figure, out, __file__, axes[1])


if __name__ == "__main__":
    show(main, TOLERANCE)
