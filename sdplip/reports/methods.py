"""Ways to propose `t` for a layer, matrix or convolution alike, each with the name that reports print."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Float

from sdplip import convolution, scalings
from sdplip.errors import InvalidScaling
from sdplip.reports.layer import Layer

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Method:
    """A named scaling `Layer -> t`; `load` imports what it needs, before anything is timed."""

    name: str
    propose: Callable[[Layer], Vector]
    load: Callable[[Layer], object] = field(default=lambda _: None, repr=False)


def _analytic(
    name: str, dense: Callable[[np.ndarray], Vector], kernel: Callable[..., Vector], *, degree: int = 2
) -> Method:
    """A closed form for matrices and for kernels; `t` grows with the power `degree` of the weight."""

    def propose(layer: Layer) -> Vector:
        # Brought near 1 by a power of two, which is exact, so that squares neither overflow nor vanish.
        e = int(np.frexp(abs(layer.K).max())[1])
        if layer.is_convolution:
            t = kernel(np.ldexp(layer.K, -e), geometry=layer.geometry, form=layer.form)
        else:
            t = dense(np.ldexp(layer.W, -e))
        return np.ldexp(t, degree * e)

    return Method(name, propose)


IDENTITY = _analytic("identity", scalings.identity, convolution.identity, degree=0)
"""T = I: is the layer 1-Lipschitz as it stands?"""
SPECTRAL = _analytic("spectral", scalings.spectral, convolution.spectral)
"""`sdplip.scalings.spectral`, of convolutions too."""
AOL = _analytic("aol", scalings.aol, convolution.aol)
"""`sdplip.scalings.aol`, of convolutions too."""
PERRON = _analytic("perron", scalings.perron, convolution.perron)
"""`sdplip.scalings.perron`, of convolutions too."""


def multi_step(p: int = 2) -> Method:
    """Multi-step AOL of order `p`; the name says `p` unless it is 2."""
    name = "multi_step" if p == 2 else f"multi_step:{p}"
    return _analytic(name, partial(scalings.multi_step, p=p), partial(convolution.multi_step, p=p))


CLOSED_FORMS = (SPECTRAL, AOL, PERRON, multi_step())
"""What `compare` shows beside the optimum: every closed form that satisfies the condition by itself."""


def given(vectors: Mapping[str, Vector]) -> Method:
    """The scaling that hands out vectors by layer name; see `vector_of`."""
    return Method("given", lambda layer: vector_of(layer, vectors, "t"))


def gershgorin(vectors: Mapping[str, Vector]) -> Method:
    """SLL's scaling with the weights `q` given by layer name."""

    def propose(layer: Layer) -> Vector:
        q = _positive(vector_of(layer, vectors, "q"), layer.channels)
        method = _analytic(
            "gershgorin", partial(scalings.gershgorin, q=q), partial(convolution.gershgorin, q=q)
        )
        return method.propose(layer)

    return Method("gershgorin", propose)


def vector_of(layer: Layer, vectors: Mapping[str, Vector], symbol: str) -> Vector:
    """The vector of that layer: by its name, by `NAME.t` (as `sdplip scale` writes it), or the only one there is.

    Raises:
        InvalidScaling: there is none.
    """
    for name in (layer.name, f"{layer.name}.{symbol}"):
        if name in vectors:
            return vectors[name]
    if len(vectors) == 1:
        return next(iter(vectors.values()))
    raise InvalidScaling(
        f"no `{symbol}` is given for it: the file has {', '.join(f'`{name}`' for name in vectors)}."
        f" Name the vector `{layer.name}`, or choose layers with `--layer`."
    )


def _positive(q: Vector, n: int) -> Vector:
    if q.shape != (n,):
        raise InvalidScaling(
            f"`q` must have one entry for each of the {n} channels that `t` scales, but its length is {len(q)}."
        )
    q = q.astype(np.float64)
    wrong = ~(np.isfinite(q) & (q > 0))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise InvalidScaling(f"`q` must be positive and finite, but entry {i} is {q[i]}. Store exp(log_q).")
    return q
