r"""The layouts of state dicts that are known: which arrays are a layer, and which numbers it runs with in eval mode.

- Published SLL, first version (ICLR 2023 tables): `kernel`, `bias`, `q` of a convolution and `weights`, `bias`, `q` of a matrix,
  $t_i = \sum_j |G_{ij}| |q_j| / (|q_i| + \epsilon)$ with $\epsilon = 10^{-6}$ for matrices and 0 for convolutions.
- Published SLL, second version: `weight` for `weights`; $q$ is exponentiated, there is no $\epsilon$, and in convolutions q cancels.
- deel-torchlip's spectral layers: `parametrizations.weight.original`, `.0._u`, `.0._v`, and with Björck `.1._w_bjorck`, which is what
  runs; kernels are divided by the root of their number of taps (stride 1).
- torch's `spectral_norm` has the first three of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np

from sdplip.condition import gram
from sdplip.convolution import gershgorin as of_kernel
from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.kernel.condition import Form
from sdplip.shapes import Float
from sdplip.weights.weight import Weight

State = Mapping[str, np.ndarray]
"""Arrays by their names in a state dict."""

EPSILON = 1e-6
"""Beside q in the denominator of the first version's matrices."""

SLL_1, SLL_2 = "SLL, first version", "SLL, second version"
TORCHLIP, SPECTRAL = "deel-torchlip", "torch's spectral_norm"
ROOT = "parametrizations.weight."


@dataclass(frozen=True, eq=False)
class Imported:
    """A layer of a checkpoint.

    Attributes:
        weight: the array that runs: `(out, in)` or `(out, in, *taps)`, hidden units first in the residual form.
        t: of the residual form $x - 2 W T^{-1} \\sigma(W^T x + b)$, as the library computes it; None is T = I.
        claimed: the constant that the layer has by construction.
        layout: whose layer it is.
        assumed: what its arrays do not say.
    """

    weight: Weight
    form: Form
    t: Float[np.ndarray, " n"] | None
    claimed: float
    layout: str
    assumed: tuple[str, ...] = ()


def imported(state: State) -> tuple[list[Imported], list[str]]:
    """The layers of known layouts in the order of the state dict, and the names of matrices and kernels that belong to none.

    Raises:
        InvalidWeight: no layer of a known layout; arrays that do not fit together or are not finite.
    """
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in state.items():
        before, mark, after = name.rpartition(ROOT)
        prefix, leaf = (before, mark + after) if mark else (name.rpartition(".")[0], name.rpartition(".")[2])
        groups.setdefault(prefix.rstrip("."), {})[leaf] = array
    layers, rest = list[Imported](), list[str]()
    dense = [
        leaf for group in groups.values() if "q" in group for leaf in ("weights", "weight") if leaf in group
    ]
    version = None if not dense else 2 if "weight" in dense else 1
    for prefix, group in groups.items():
        leaves = set(group)
        if "q" in leaves and leaves & {"kernel", "weights", "weight"}:
            layers.append(_sll(prefix, group, version))
        elif {f"{ROOT}original", f"{ROOT}0._u", f"{ROOT}0._v"} <= leaves:
            layers.append(_spectral(prefix, group))
        else:
            rest += [f"{prefix}.{leaf}".lstrip(".") for leaf, array in group.items() if array.ndim > 1]
    if not layers:
        raise InvalidWeight(
            f"No layer of a known layout ({SLL_1}; {SLL_2}; {TORCHLIP}; {SPECTRAL}) is among {', '.join(list(state)[:4])}, ..."
            " Load the checkpoint into the library that made it, and ask `sdplip.lipschitz(module)`."
        )
    return layers, rest


def _sll(prefix: str, group: dict[str, np.ndarray], version: int | None) -> Imported:
    """A residual layer; the version of its file is known by the names of its matrices."""
    leaf = next(name for name in ("kernel", "weights", "weight") if name in group)
    array, q = (
        _finite(prefix, leaf, group[leaf]),
        _finite(prefix, "q", group["q"]).astype(np.float64).reshape(-1),
    )
    if q.shape != array.shape[:1] or array.ndim not in (2, 4):
        raise InvalidWeight(
            f"`{prefix}.q` has {q.size} entries and `{prefix}.{leaf}` the shape {array.shape}: not SLL's, one q a hidden unit."
        )
    wide = array.astype(np.float64)
    name = f"{prefix}.{leaf}".lstrip(".")
    if array.ndim == 2:
        second = leaf == "weight"
        above, below = (np.exp(q), np.exp(q)) if second else (abs(q), abs(q) + EPSILON)
        t = (abs(gram(wide.T)) * above).sum(-1) / below
        return Imported(Weight(name, array), "residual", t, 1.0, SLL_2 if second else SLL_1)
    weights = np.ones(len(q)) if version == 2 else abs(q)
    t = of_kernel(wide, weights, Geometry(), form="residual")
    said = (
        "No matrix tells which version of SLL this is: convolutions are taken as the first one computes them, with q."
        if version is None
        else "",
    )
    layout = SLL_2 if version == 2 else SLL_1
    return Imported(Weight(name, array, Geometry()), "residual", t, 1.0, layout, tuple(filter(None, said)))


def _spectral(prefix: str, group: dict[str, np.ndarray]) -> Imported:
    W = _finite(prefix, f"{ROOT}original", group[f"{ROOT}original"])
    name = f"{prefix}.weight".lstrip(".")
    run = group.get(f"{ROOT}1._w_bjorck")
    if run is None:
        u, v = (group[f"{ROOT}0.{side}"] for side in ("_u", "_v"))
        matrix = W.reshape(len(W), -1)
        if u.shape != matrix.shape[:1] or v.shape != matrix.shape[1:]:
            raise InvalidWeight(
                f"`{name}`: u and v have the lengths {u.shape} and {v.shape}, W the shape {matrix.shape}."
            )
        run = (W / W.dtype.type(u @ matrix @ v)).astype(W.dtype)
        said = ("The raw weight is divided by u^T W v, as eval mode does.",)
    else:
        said = ("The weight that the last training step kept (`_w_bjorck`) runs, as in eval mode.",)
    run = _finite(prefix, "the weight that runs", run)
    if run.ndim == 2 or f"{ROOT}1._w_bjorck" not in group:
        layout = TORCHLIP if f"{ROOT}1._w_bjorck" in group else SPECTRAL
        return Imported(
            Weight(name, run, None if run.ndim == 2 else Geometry()), "linear", None, 1.0, layout, said
        )
    run = run * run.dtype.type(sqrt(1 / prod(run.shape[2:])))
    said = (
        *said,
        "Kernels have stride 1, zero padding and no factor of their own (`k_coef_lip`), which the file does not say.",
    )
    return Imported(Weight(name, run, Geometry()), "linear", None, 1.0, TORCHLIP, said)


def _finite(prefix: str, leaf: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f" or not np.isfinite(array).all() or not array.size:
        raise InvalidWeight(f"`{prefix}.{leaf}` holds no finite numbers, or none at all.")
    return array
