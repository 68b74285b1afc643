"""All scalings of a layer and the proven optimum side by side, as data."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sdplip.display import brief, figure, html
from sdplip.kernel.condition import Certificate, Form
from sdplip.reports.grid import frequency_grid
from sdplip.reports.layer import Layer, naming
from sdplip.reports.methods import CLOSED_FORMS, Method
from sdplip.reports.numbers import finite, log_det, trace, trace_above
from sdplip.reports.optimum import Objective, Optimum, Solver, Watch, optimise
from sdplip.reports.spectrum import Spectrum, spectrum
from sdplip.weights import Weight


@dataclass(frozen=True, eq=False)
class ScalingRow:
    """One scaling of one layer.

    Attributes:
        certificate: of `t` as proposed; the optimum's `t` is proven.
        spectrum: of the rescaled weight.
        seconds: of proposing and proving.
        optimum: what the solver and the kernel say of the optimal row, None of a closed form.
    """

    name: str
    certificate: Certificate
    spectrum: Spectrum
    seconds: float
    optimum: Optimum | None = None

    __repr__ = brief("name", "trace", "certificate")

    @property
    def trace(self) -> float:
        """Sum of `t`; of the optimal row rounded up, so that a proven `t` has this trace or less."""
        t = self.certificate.t
        return trace(t) if self.optimum is None else trace_above(t)

    @property
    def trace_lower(self) -> float | None:
        """No `t` that satisfies the condition has a smaller trace: proven. None of closed forms and of the largest volume."""
        is_trace = self.optimum is not None and self.name == Objective.TRACE.value
        return self.optimum.lower if self.optimum and is_trace else None

    @property
    def log_det(self) -> float:
        """Sum of log `t` over the nonzero entries."""
        return log_det(self.certificate.t)

    def cost(self, objective: Objective) -> float:
        r"""Trace (geometric mean) of $\max(1, c^2)\,t$: what the scaling costs once it satisfies the condition."""
        c, t = self.certificate.c, self.certificate.t
        mean = self.trace if objective is Objective.TRACE else math.exp(self.log_det / int((t > 0).sum()))
        return mean * max(1.0, c * c)

    def to_json(self) -> dict[str, Any]:
        return {
            "scaling": self.name,
            "trace": finite(self.trace),
            "trace_lower": self.trace_lower,
            "log_det": finite(self.log_det),
            "c": self.certificate.c,
            "c_lower": self.certificate.c_lower,
            "bound": finite(self.certificate.bound),
            "mean_singular_value": finite(self.spectrum.mean),
            "orthogonality_defect": finite(self.spectrum.orthogonality_defect),
            "seconds": self.seconds,
            "solver": self.optimum.solver if self.optimum else None,
            "gap": self.optimum.gap if self.optimum else None,
        }


@dataclass(frozen=True, eq=False)
class LayerComparison:
    """The rows of one layer, the optimal one last.

    Attributes:
        grid: frequencies of a convolution at which the optimum and the singular values are taken, None of a matrix.
    """

    layer: Layer
    rows: tuple[ScalingRow, ...]
    objective: Objective
    grid: tuple[int, ...] | None

    __repr__ = brief("layer", "rows")

    @property
    def best(self) -> ScalingRow:
        return self.rows[-1]

    def ratio(self, row: ScalingRow) -> float:
        """Cost of the row divided by that of the optimum: 1 is best."""
        return row.cost(self.objective) / self.best.cost(self.objective)

    def to_json(self) -> dict[str, Any]:
        weight = self.layer.weight
        return {
            "name": weight.name,
            "shape": list(weight.array.shape),
            "kind": weight.kind,
            "form": self.layer.form,
            "scalings": [row.to_json() for row in self.rows],
        }


@dataclass(frozen=True, eq=False)
class CompareReport:
    """The comparisons of all layers of a file."""

    layers: tuple[LayerComparison, ...]
    objective: Objective

    _repr_html_ = html
    plot = figure

    def __repr__(self) -> str:
        said = [f"{one.layer.name}: {one.best.name} {one.best.trace!r}" for one in self.layers[:3]]
        more = f", ... {len(self.layers)} layers" if len(self.layers) > 3 else ""
        return f"CompareReport({', '.join(said)}{more})"

    def to_json(self) -> dict[str, Any]:
        return {"objective": self.objective.value, "layers": [layer.to_json() for layer in self.layers]}


def compare(
    weights: Iterable[Weight],
    methods: Sequence[Method] = CLOSED_FORMS,
    *,
    form: Form = "linear",
    objective: Objective = Objective.TRACE,
    solver: Solver = "auto",
    watch: Watch | None = None,
) -> CompareReport:
    """Every method and the optimum on every weight.

    Args:
        weights: as `sdplip.read` returns them.
        methods: proposals to set beside the optimum.
        form: the layer that each weight is, see `check`.
        objective: what the optimum minimises.
        solver: finds the optimum; the kernel proves it.
        watch: called with the layer and every `Progress` of the solver.

    Raises:
        SdplipError: one of its kinds, with the name of the layer.
    """

    def one(layer: Layer) -> LayerComparison:
        with naming(layer):
            rows = [_row(layer, method) for method in methods]
            best = optimise(layer, objective, solver=solver, watch=watch)
            shape = spectrum(layer, best.certificate.t)
            rows.append(ScalingRow(objective.value, best.certificate, shape, best.seconds, best))
            grid = frequency_grid(layer) if layer.is_convolution else None
        return LayerComparison(layer, tuple(rows), objective, grid)

    return CompareReport(tuple(one(Layer(weight, form)) for weight in weights), objective)


def _row(layer: Layer, method: Method) -> ScalingRow:
    method.load(layer)
    begin = time.perf_counter()
    certificate = layer.certify(method.propose(layer), method.name)
    seconds = time.perf_counter() - begin
    return ScalingRow(method.name, certificate, spectrum(layer, certificate.t), seconds)
