r"""Normalisation with a known constant: diagonal maps whose scales are shared between channels, or bounded."""

import math

import torch
from torch import Tensor, nn

from sdplip.errors import InvalidWeight
from sdplip.nn.given import count, number


class BatchLipNorm(nn.Module):
    r"""$s\,(x - \mu) + b$ with running means $\mu$ of the channels (axis 1), a learned shift $b$, and one scale for all channels,
    $s = \min\bigl(\mathrm{most}, (\bar v + \varepsilon)^{-1/2}\bigr)$, $\bar v$ the mean of their running variances.

    The constant is $s$: a multiple of an isometry. Batch normalisation gives each channel its own scale, and its constant is the
    largest of them, which one channel of small variance makes as large as $\varepsilon^{-1/2}$. In training the batch is normalised by
    the statistics of the batches before it, which it then joins: samples never depend on each other, `lipschitz` speaks about the very
    next forward pass, and eval mode is the same map. For a network of one constant put `Scale` at its end, or a loss that knows
    constants (`EMMA`, `GloRo`).

    Args:
        channels: on axis 1.
        most: largest scale, so the largest constant.
        eps: added to the variance.
        momentum: weight of a new batch in the running statistics, in [0, 1]; 0 leaves them as they are.

    Raises:
        InvalidWeight: numbers out of their ranges; in `forward`, another number of channels.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, most: float = 1.0, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        channels = count("channels", channels, 1, InvalidWeight)
        most, eps, momentum = (
            number(name, x, InvalidWeight)
            for name, x in (("most", most), ("eps", eps), ("momentum", momentum))
        )
        if not (0 < most < math.inf and eps > 0 and 0 <= momentum <= 1):
            raise InvalidWeight(
                f"`most` and `eps` must be positive and `momentum` in [0, 1], but they are {most}, {eps} and {momentum}."
            )
        self.most, self.eps, self.momentum = float(most), float(eps), float(momentum)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def scale(self) -> Tensor:
        """The number that forward multiplies with."""
        return (self.variance.mean() + self.eps).rsqrt().clamp(max=self.most)

    def forward(self, x: Tensor) -> Tensor:
        mean, bias = (_along(v, x, "BatchLipNorm") for v in (self.mean, self.bias))
        y = (x - mean) * self.scale().to(x.dtype) + bias
        if self.training and self.momentum:
            self._join(x.detach())
        return y.to(x.dtype)

    @torch.no_grad()
    def _join(self, x: Tensor) -> None:
        """Let a batch into the statistics of the next ones. New tensors: graphs of this pass keep the ones that they saw."""
        axes = (0, *range(2, x.ndim))
        mean, variance = x.mean(axes), x.var(axes, unbiased=False)
        self.mean = torch.lerp(self.mean, mean.to(self.mean.dtype), self.momentum)
        self.variance = torch.lerp(self.variance, variance.to(self.variance.dtype), self.momentum)

    def extra_repr(self) -> str:
        return f"{len(self.mean)}, most={self.most}, momentum={self.momentum}"


class ActNorm(nn.Module):
    r"""$s_i x_i + b_i$ for each channel $i$ (axis 1) with $s_i = \mathrm{most} \cdot \tanh \theta_i$, learned: the constant is
    $\max_i |s_i|$, at most `most` (ActNorm of Glow, Kingma and Dhariwal 2018, with a bounded scale).

    The first batch in training sets $s$ and $b$ so that its channels have mean 0 and variance 1, or as much as `most` allows;
    `initialise(x)` does the same by hand, and has to where the network is compiled. Afterwards both are parameters like others.

    Raises:
        InvalidWeight: `most` not positive; in `forward`, another number of channels.
    """

    ready: Tensor

    def __init__(self, channels: int, most: float = 1.0) -> None:
        super().__init__()
        channels, most = count("channels", channels, 1, InvalidWeight), number("most", most, InvalidWeight)
        if not 0 < most < math.inf:
            raise InvalidWeight(f"`most` must be positive, but is {most}.")
        self.most = float(most)
        self.theta = nn.Parameter(torch.full((channels,), math.atanh(LARGEST * min(1.0, 1 / self.most))))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
        self._seen = False  # that it is ready: the host would wait to read that at every step

    def scale(self) -> Tensor:
        """The diagonal that forward multiplies with, one number a channel."""
        return self.most * torch.tanh(self.theta)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> "ActNorm":
        """Set scales and shifts by a batch, and the mark that this is done."""
        axes = (0, *range(2, x.ndim))
        _along(self.bias, x, "ActNorm")
        mean, variance = x.double().mean(axes), x.double().var(axes, unbiased=False)
        scale = variance.clamp_min(1e-12).rsqrt().clamp(max=LARGEST * self.most)
        self.theta.copy_(torch.atanh(scale / self.most))
        self.bias.copy_(-mean * scale)
        self.ready.fill_(True)
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self._seen and not torch.compiler.is_compiling():
            if not bool(self.ready):
                self.initialise(x.detach())
            self._seen = True
        return (x * _along(self.scale(), x, "ActNorm") + _along(self.bias, x, "ActNorm")).to(x.dtype)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._seen = False
        super()._load_from_state_dict(*args, **kwargs)

    def extra_repr(self) -> str:
        return f"{len(self.theta)}, most={self.most}"


LARGEST = 0.95
"""Share of `most` at which a scale starts at most: closer to it the gradient of tanh vanishes."""


def _along(v: Tensor, x: Tensor, layer: str) -> Tensor:
    """One number a channel, in the shape of axis 1 of `x` and its dtype."""
    if x.ndim < 2 or x.shape[1] != len(v):
        raise InvalidWeight(
            f"`{layer}` was built for {len(v)} channels, but got the shape {tuple(x.shape)}. Build one for them."
        )
    return v.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 2))
