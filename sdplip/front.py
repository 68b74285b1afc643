"""The front door of the library: the main questions, asked of whatever people hold.

`sdplip.bound`, `sdplip.lipschitz`, `sdplip.check`, `sdplip.compare`, `sdplip.certify_accuracy`, `sdplip.load`, `sdplip.train`. A
network is a path, a `torch.nn.Module`, a `sdplip.network.Network`, a matrix (out, in) or a list of them as arrays or tensors; a
layer is one of these too; images are arrays, tensors, or a `DataLoader`. What is something else gets a TypeError with the remedy.

`progress="auto"` draws a bar in a terminal or notebook, and nothing elsewhere; None draws nothing; a function is called.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sdplip.errors import InvalidProblem
from sdplip.network.read.anything import Anything, is_module, understand
from sdplip.shapes import array

if TYPE_CHECKING:
    from torch import nn

    from sdplip.bounds.answer import NetworkBound, Tried
    from sdplip.kernel.condition import Form
    from sdplip.kernel.proof import Norm
    from sdplip.kernel.regions import Region
    from sdplip.network import Network
    from sdplip.nn.bounds.tree import Bound
    from sdplip.reports import CheckReport, CompareReport, Method
    from sdplip.robustness.arithmetic import Precision
    from sdplip.robustness.certification import Certification, Scope
    from sdplip.solvers import AbstractSolver, Problem, Progress, Solution
    from sdplip.training import Progress as RunProgress
    from sdplip.training import RunConfig, RunSummary
    from sdplip.training.data import Source
    from sdplip.training.metrics import Line

Shape = tuple[int, ...]
Auto = Literal["auto"]


def bound(
    network: Anything,
    method: str | Callable[..., Any] = "auto",
    *,
    input_shape: Shape | None = None,
    activation: str | None = None,
    output_pair: tuple[int, int] | None = None,
    output_norm: "Norm" = "l2",
    region: "Region | None" = None,
    progress: Callable[[int, float, float], object] | Auto | None = "auto",
    report: "Callable[[Tried], object] | None" = None,
    device: str = "cpu",
    seconds: float = 60.0,
    points: Any = None,
) -> "NetworkBound":
    r"""A proven Lipschitz bound of a network, with its proof and what is known from below: see `sdplip.bounds.bound`.

    Args:
        network: a path, a module, a `Network`, a matrix or a list of matrices, first layer first.
        input_shape: of one sample, `(features,)` or `(channels, *pixels)`, for modules.
        activation: between bare matrices, "relu" if not said.
        points: an array or tensor of inputs, such as training data: the search from below (`lower`) begins there too.
        progress: "auto" is a bar; or called with iteration, upper and lower value by iterative methods.

    Raises:
        TypeError: no network, or an argument that has no effect on it.
        SdplipError: as the readers and `sdplip.bounds.bound`.
    """
    from sdplip.bounds.choose import bound as bounded
    from sdplip.progress import bound_bar

    found = understand(network, input_shape=input_shape, activation=activation).network
    with bound_bar() if progress == "auto" else nullcontext((progress, None)) as (watch, told):
        return bounded(
            found, method, output_pair=output_pair, output_norm=output_norm, region=region, progress=watch,
            report=report or told, device=device, seconds=seconds, points=None if points is None else array(points),
        )  # fmt: skip


def solve(
    problem: "Problem",
    solver: "AbstractSolver | Auto" = "auto",
    *,
    start: Any = None,
    progress: "Callable[[Progress], None] | Auto | None" = "auto",
) -> "Solution":
    """The untrusted solution of a problem: see `sdplip.solvers.solve`; `sdplip.solvers.prove` says what it is worth.

    Args:
        progress: "auto" is a bar; or called with a `Progress` at every iteration.

    Raises:
        SolverUnavailable: as `sdplip.solvers.solve`.
    """
    from sdplip.progress import solve_bar
    from sdplip.solvers.auto import solve as solved

    with solve_bar() if progress == "auto" else nullcontext(progress) as watch:
        return solved(problem, solver, start=start, progress=watch)


def train(
    config: "RunConfig | str",
    out: str | os.PathLike[str],
    *,
    model: "nn.Module | None" = None,
    data: "Source | None" = None,
    progress: "Callable[[RunProgress], None] | Auto | None" = "auto",
    on_epoch: "Callable[[Line], None] | None" = None,
    stop: Callable[[], bool] | None = None,
    resume: bool = True,
) -> "RunSummary":
    """Train a network into the folder `out`: see `sdplip.training.train`, which says what each argument is.

    Args:
        progress: "auto" is a bar; or called now and then.

    Raises:
        SdplipError: as `sdplip.training.train`.
    """
    from sdplip.progress import run_bar
    from sdplip.training.loop import train as trained

    with run_bar() if progress == "auto" else nullcontext(progress) as watch:
        return trained(
            config, Path(out), model=model, data=data, progress=watch, on_epoch=on_epoch, stop=stop, resume=resume
        )  # fmt: skip


def lipschitz(network: Anything, *, input_shape: Shape | None = None) -> "Bound":
    """The proven bound of a module with the reasons, layer by layer (`sdplip.nn.lipschitz`); of files and matrices the product of
    their layers.

    Raises:
        TypeError: no network.
        RefusedModule: no Lipschitz bound holds, or none that can be proven.
    """
    from sdplip.nn.bound import lipschitz as of_module
    from sdplip.nn.bounds.tree import Bound

    if is_module(network):
        return of_module(network, input_shape=input_shape)
    found = bound(network, "product", input_shape=input_shape)
    return Bound(found.bound, "product of the layers' proven norms", "network")


def check(
    layers: Anything, method: "Method | None" = None, *, form: "Form" = "linear", tolerance: float = 1e-6
) -> "CheckReport":
    r"""Proven answers to "is $W^\top W \preceq T$?" for each layer: see `sdplip.reports.check`.

    Args:
        layers: a path, a weight or a list of them (arrays, tensors, `sdplip.read(...)`), or a module, whose linear layers and
            convolutions are checked with the weights that run.
        method: proposes `t`; None is T = I.

    Raises:
        TypeError: something else.
        SdplipError: one of its kinds, with the name of the layer.
    """
    from sdplip import reports

    return reports.check(
        reports.weights_of(layers), method or reports.IDENTITY, form=form, tolerance=tolerance
    )


def compare(
    layers: Anything, methods: "Sequence[Method] | None" = None, *, form: "Form" = "linear"
) -> "CompareReport":
    """Every scaling beside the optimum on each layer: see `sdplip.reports.compare`; layers as for `check`.

    Raises:
        TypeError, SdplipError: as `check`.
    """
    from sdplip import reports
    from sdplip.reports.compare import CLOSED_FORMS

    return reports.compare(reports.weights_of(layers), methods or CLOSED_FORMS, form=form)


def certify_accuracy(
    model: Anything,
    images: Any,
    labels: Any = None,
    *,
    precision: "Precision" = "float64",
    scope: "Scope" = "computed",
    batch: int = 256,
    limits: tuple[float, float] = (0.0, 1.0),
    progress: Callable[[int, int], None] | Auto | None = "auto",
) -> "Certification":
    """Predictions, certified radii and accuracy on labelled images: see `sdplip.robustness.certification.certify_accuracy`.

    Args:
        model: a module, or a path, a `Network` or its `GraphModule`, which the kernel certifies by itself.
        images: `(n, ...)` arrays or tensors, bytes (divided by 255) or floating point; or a `DataLoader` of (images, labels).
        labels: whole numbers; None with a `DataLoader`.
        limits: between which floating-point images lie. Radii are distances of images as they enter the network: whoever feeds
            normalised images says so, and gets radii in that unit.
        progress: "auto" is a bar; or called with the images done and their number.

    Raises:
        TypeError: something else.
        InvalidProblem: images outside of `limits`, or that do not fit labels or model.
        RefusedModule, NotProvable: nothing can be proven.
    """
    import torch

    from sdplip.nn.given import one_of
    from sdplip.robustness.certification import SCOPES

    one_of("scope", scope, SCOPES)
    x, y = _samples(images, labels)
    if x.dtype.kind == "f" and x.size and not (limits[0] <= float(x.min()) and float(x.max()) <= limits[1]):
        raise InvalidProblem(
            f"Images lie between {float(x.min()):.6g} and {float(x.max()):.6g}, not between {limits[0]:g} and {limits[1]:g}."
            " Radii are distances of images as they enter the network: pass images in [0, 1] and normalise in the network"
            " (`sdplip.nn.Normalise`), or say `limits=(low, high)` and read radii in that unit."
        )
    from sdplip.progress import image_bar

    with image_bar("certifying") if progress == "auto" else nullcontext(progress) as watch:
        if is_module(model) and not _is_graph(model):
            from sdplip.robustness.certification import certify_accuracy as certified

            samples = torch.from_numpy(x), torch.from_numpy(y)
            return certified(model, *samples, precision=precision, scope=scope, batch=batch, progress=watch)
        from sdplip.robustness.graph_accuracy import certify_graph

        network = model.network if _is_graph(model) else understand(model).network  # pyright: ignore[reportAttributeAccessIssue]
        arithmetic = "exact" if scope == "exact" else precision
        return certify_graph(network, x, y, arithmetic=arithmetic, progress=watch).certification


def load(path: str | os.PathLike[str], *, model: "nn.Module | None" = None) -> "nn.Module | Network":
    """The trained network of a run folder as a module in eval mode; of any other file the `Network` that it holds.

    Args:
        model: of a run whose network was passed as an object: one of the same class.

    Raises:
        SdplipError: as `sdplip.training.load_run` and the readers.
    """
    if Path(path).is_dir():
        from sdplip.training.run import load_run

        return load_run(path, model=model)[1]  # type: ignore[arg-type]
    if model is not None:
        raise TypeError("`model` is for run folders. Drop it.")
    return understand(path).network


def _samples(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    if labels is not None:
        try:
            x, y = array(images), array(labels)
        except ValueError:
            raise InvalidProblem(
                "`images` and `labels` must be arrays or tensors, but one holds rows of unequal lengths."
            ) from None
    elif hasattr(images, "__array__") or not isinstance(images, Iterable):
        raise TypeError("`labels` are missing. Pass them, or a `DataLoader` of (images, labels).")
    else:
        pairs = list(images)
        if not pairs or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise TypeError("A `DataLoader` must give pairs (images, labels).")
        x, y = (np.concatenate([array(pair[k]) for pair in pairs]) for k in (0, 1))
    if x.dtype.kind not in "fu" or (x.dtype.kind == "u" and x.dtype != np.uint8):
        raise InvalidProblem(f"`images` must be bytes (uint8) or floating point, but are {x.dtype}.")
    if y.dtype.kind not in "iu":
        raise InvalidProblem(
            f"`labels` must be whole numbers, one an image, but are {y.dtype} of shape {y.shape}."
        )
    return np.ascontiguousarray(x), y.astype(np.int64)


def _is_graph(value: Any) -> bool:
    """Whether a module runs a `Network`, whose rounding the kernel proves."""
    if not is_module(value):
        return False
    from sdplip.robustness.graph_module import GraphModule

    return isinstance(value, GraphModule)
