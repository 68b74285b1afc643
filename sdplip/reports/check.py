"""Does each layer satisfy $W^T W <= T$ for the T that was named? The answer as data."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sdplip.display import brief, equal, hashed, html
from sdplip.kernel.condition import Certificate, Form, Verdict
from sdplip.reports.layer import Layer, naming
from sdplip.reports.methods import IDENTITY, Method
from sdplip.reports.numbers import finite, trace
from sdplip.weights import Weight

TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class LayerCheck:
    """What was proven of one layer, and the seconds that proposing and proving took."""

    layer: Layer
    certificate: Certificate
    verdict: Verdict
    seconds: float = field(compare=False)

    __repr__ = brief("layer", "certificate", "verdict")
    __eq__ = equal
    __hash__ = hashed

    @property
    def trace(self) -> float:
        """Sum of `t`."""
        return trace(self.certificate.t)

    def to_json(self) -> dict[str, Any]:
        proof, weight = self.certificate, self.layer.weight
        return {
            "name": weight.name,
            "shape": list(weight.array.shape),
            "kind": weight.kind,
            "form": proof.form,
            "scaling": proof.scaling,
            "verdict": self.verdict.value,
            "c": proof.c,
            "c_lower": proof.c_lower,
            "bound": finite(proof.bound),
            "trace": finite(self.trace),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class CheckReport:
    """The checks of all layers of a file."""

    layers: tuple[LayerCheck, ...]

    _repr_html_ = html

    def __repr__(self) -> str:
        bounds = ", ".join(f"{one.layer.name} <= {one.certificate.bound!r}" for one in self.layers[:3])
        more = f", ... {len(self.layers)} layers" if len(self.layers) > 3 else ""
        return f"CheckReport({self.verdict.value}: {bounds}{more})"

    @property
    def verdict(self) -> Verdict:
        """Violated if one layer is, else undecided if one is, else satisfied."""
        verdicts = {layer.verdict for layer in self.layers}
        order = (Verdict.VIOLATED, Verdict.UNDECIDED)
        return next((verdict for verdict in order if verdict in verdicts), Verdict.SATISFIED)

    def to_json(self) -> dict[str, Any]:
        return {"verdict": self.verdict.value, "layers": [layer.to_json() for layer in self.layers]}


def check(
    weights: Iterable[Weight],
    method: Method = IDENTITY,
    *,
    form: Form = "linear",
    tolerance: float = TOLERANCE,
) -> CheckReport:
    r"""Proven answers to "is $W^\top W \preceq T$?" for every weight, with `t` as `method` proposes it.

    With the default, $T = I$, the question is whether the layer is 1-Lipschitz as it stands, and `c` is its proven spectral norm.

    Args:
        weights: as `sdplip.read` returns them.
        method: proposes `t`.
        form: whether each weight is a linear layer $W T^{-1/2} x$ or a residual layer $x - 2 W T^{-1} \sigma(W^\top x)$.
        tolerance: satisfied means $c \le 1 +$ `tolerance`.

    Raises:
        InvalidWeight, InvalidScaling, UnsupportedConvolution, NotProvable: with the name of the layer.
    """
    return CheckReport(tuple(_check(Layer(weight, form), method, tolerance) for weight in weights))


def _check(layer: Layer, method: Method, tolerance: float) -> LayerCheck:
    method.load(layer)
    begin = time.perf_counter()
    with naming(layer):
        certificate = layer.certify(method.propose(layer), method.name, dense=True)
    seconds = time.perf_counter() - begin
    return LayerCheck(layer, certificate, certificate.verdict(tolerance), seconds)
