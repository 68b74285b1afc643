r"""Slope intervals of the usual activations, $\alpha \le (\varphi(x) - \varphi(y)) / (x - y) \le \beta$, rounded outward."""

SLOPES: dict[str, tuple[float, float]] = {
    "identity": (1.0, 1.0),
    "relu": (0.0, 1.0),
    "relu6": (0.0, 1.0),
    "hardtanh": (0.0, 1.0),
    "tanh": (0.0, 1.0),
    "softsign": (0.0, 1.0),
    "softplus": (0.0, 1.0),
    "sigmoid": (0.0, 0.25),
    "abs": (-1.0, 1.0),
    # The derivative Phi(x) + x phi(x) of GELU is extreme at -sqrt 2 and sqrt 2: -0.128904... and 1.128904...
    "gelu": (-0.128905, 1.128905),
    # The derivative of x / (1 + exp(-x)) is extreme where x tanh(x / 2) = 2: -0.099839... and 1.099839...
    "silu": (-0.09984, 1.09984),
}
"""By name. GELU is the exact one, with the error function."""
