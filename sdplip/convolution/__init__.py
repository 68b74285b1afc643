r"""A convolution as a linear map $C$: its Gram kernel, symbol, dense matrix, and its scalings, one `t` a channel.

`form="linear"`: layer `conv(x * t**-0.5)`, `t` on the input channels, $C^\top C \preceq T$.
`form="residual"`: layer $x - 2\,C^\top T^{-1} \sigma(C x + b)$, `t` on the output (hidden) channels, $C C^\top \preceq T$.
Kernels are oriented as in torch, `(out, in / groups, *taps)`, with one to three image axes; NumPy or torch.
"""

from sdplip.convolution.dense import dense_matrix
from sdplip.convolution.kernels import autocorrelation
from sdplip.convolution.layout import Form
from sdplip.convolution.scalings import aol, gershgorin, identity, multi_step, perron, spectral
from sdplip.convolution.symbols import norm_circular, symbol

__all__ = [
    "Form",
    "aol",
    "autocorrelation",
    "dense_matrix",
    "gershgorin",
    "identity",
    "multi_step",
    "norm_circular",
    "perron",
    "spectral",
    "symbol",
]
