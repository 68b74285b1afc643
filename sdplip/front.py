"""The front door of the library: the main questions, asked of whatever people hold.

`sdplip.bound`, `sdplip.lipschitz`, `sdplip.check`, `sdplip.compare`, `sdplip.certify_accuracy`, `sdplip.load`, `sdplip.train`. A
network is a path, a `torch.nn.Module`, a `sdplip.network.Network`, a matrix (out, in) or a list of them as arrays or tensors; a
layer is one of these too; images are arrays, tensors, or a `DataLoader`. What is something else gets a TypeError with the remedy.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdplip.errors import InvalidProblem
from sdplip.network.read.anything import Anything, understand
from sdplip.shapes import array
from sdplip.weights.weight import Weight

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

Shape = tuple[int, ...]


def bound(
    network: Anything,
    method: str | Callable[..., Any] = "auto",
    *,
    input_shape: Shape | None = None,
    activation: str | None = None,
    output_pair: tuple[int, int] | None = None,
    output_norm: "Norm" = "l2",
    region: "Region | None" = None,
    progress: Callable[[int, float, float], object] | None = None,
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

    Raises:
        TypeError: no network, or an argument that has no effect on it.
        SdplipError: as the readers and `sdplip.bounds.bound`.
    """
    from sdplip.bounds.choose import bound as bounded

    found = understand(network, input_shape=input_shape, activation=activation).network
    return bounded(
        found, method, output_pair=output_pair, output_norm=output_norm, region=region, progress=progress, report=report,
        device=device, seconds=seconds, points=None if points is None else array(points),
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

    if _is_module(network):
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

    return reports.check(weights_of(layers), method or reports.IDENTITY, form=form, tolerance=tolerance)


def compare(
    layers: Anything, methods: "Sequence[Method] | None" = None, *, form: "Form" = "linear"
) -> "CompareReport":
    """Every scaling beside the optimum on each layer: see `sdplip.reports.compare`; layers as for `check`.

    Raises:
        TypeError, SdplipError: as `check`.
    """
    from sdplip import reports
    from sdplip.reports.compare import CLOSED_FORMS

    return reports.compare(weights_of(layers), methods or CLOSED_FORMS, form=form)


def certify_accuracy(
    model: Anything,
    images: Any,
    labels: Any = None,
    *,
    precision: "Precision" = "float64",
    scope: "Scope" = "computed",
    batch: int = 256,
    limits: tuple[float, float] = (0.0, 1.0),
    progress: Callable[[int, int], None] | None = None,
) -> "Certification":
    """Predictions, certified radii and accuracy on labelled images: see `sdplip.robustness.certification.certify_accuracy`.

    Args:
        model: a module, or a path, a `Network` or its `GraphModule`, which the kernel certifies by itself.
        images: `(n, ...)` arrays or tensors, bytes (divided by 255) or floating point; or a `DataLoader` of (images, labels).
        labels: whole numbers; None with a `DataLoader`.
        limits: between which floating-point images lie. Radii are distances of images as they enter the network: whoever feeds
            normalised images says so, and gets radii in that unit.

    Raises:
        TypeError: something else.
        InvalidProblem: images outside of `limits`, or that do not fit labels or model.
        RefusedModule, NotProvable: nothing can be proven.
    """
    import torch

    x, y = _samples(images, labels)
    if x.dtype.kind == "f" and x.size and not (limits[0] <= float(x.min()) and float(x.max()) <= limits[1]):
        raise InvalidProblem(
            f"Images lie between {float(x.min()):.6g} and {float(x.max()):.6g}, not between {limits[0]:g} and {limits[1]:g}."
            " Radii are distances of images as they enter the network: pass images in [0, 1] and normalise in the network"
            " (`sdplip.nn.Normalise`), or say `limits=(low, high)` and read radii in that unit."
        )
    if _is_module(model) and not _is_graph(model):
        from sdplip.robustness.certification import certify_accuracy as certified

        return certified(
            model,
            torch.from_numpy(x),
            torch.from_numpy(y),
            precision=precision,
            scope=scope,
            batch=batch,
            progress=progress,
        )
    from sdplip.robustness.graph_accuracy import certify_graph

    network = model.network if _is_graph(model) else understand(model).network  # pyright: ignore[reportAttributeAccessIssue]
    return certify_graph(
        network, x, y, arithmetic="exact" if scope == "exact" else precision, progress=progress
    ).certification


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


def weights_of(layers: Anything) -> list[Weight]:
    """The weights that `check` and `compare` are asked about.

    Raises:
        TypeError: none.
    """
    if isinstance(layers, str | os.PathLike):
        from sdplip.weights.read import read

        return list(read(layers))
    if _is_module(layers):
        return _effective(layers)
    if isinstance(layers, Weight) or (hasattr(type(layers), "__array__") and np.ndim(layers) > 1):
        layers = [layers]
    if isinstance(layers, Iterable) and not isinstance(layers, bytes):
        found = [
            w if isinstance(w, Weight) else Weight(f"layer {k}", array(w))
            for k, w in enumerate(_listed(layers))
        ]
        if found and all(2 <= w.array.ndim <= 5 and w.array.dtype.kind in "fiu" for w in found):
            return found
    raise TypeError(
        f"`{type(layers).__name__}` holds no layers. Pass a path, a matrix (out, in) or kernel (out, in / groups, *taps), a list"
        " of them, or a module."
    )


def _listed(layers: Iterable[Any]) -> list[Any]:
    found = list(layers)
    if all(isinstance(w, Weight) or hasattr(type(w), "__array__") for w in found):
        return found
    raise TypeError("A list of layers must hold arrays, tensors or weights of `sdplip.read`.")


def _effective(module: Any) -> list[Weight]:
    """Linear layers and convolutions of a module with the numbers that run, and how its kernels move."""
    import torch
    from torch import nn

    from sdplip.geometry import Geometry

    found = list[Weight]()
    with torch.no_grad():
        for name, part in module.named_modules():
            if isinstance(part, nn.Linear):
                found.append(Weight(name or "weight", array(part.weight)))
            elif isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                same = isinstance(part.padding, str)
                padding = (None if part.padding == "same" else 0) if same else tuple(map(int, part.padding))
                mode = "circular" if part.padding_mode == "circular" else part.padding_mode
                geometry = Geometry(tuple(part.stride), mode, padding, tuple(part.dilation), part.groups)
                found.append(Weight(name or "weight", array(part.weight), geometry))
    if not found:
        raise TypeError(
            f"`{type(module).__name__}` holds no linear layer and no convolution. Ask `sdplip.lipschitz` about it."
        )
    return found


def _samples(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    if labels is not None:
        x, y = array(images), array(labels)
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
    if not _is_module(value):
        return False
    from sdplip.robustness.graph_module import GraphModule

    return isinstance(value, GraphModule)


def _is_module(what: Any) -> bool:
    import sys

    torch = sys.modules.get("torch")
    return torch is not None and isinstance(what, torch.nn.Module)
