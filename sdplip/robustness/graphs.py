r"""Constants and radii of single nodes of a graph network: far less than the one constant of the whole graph.

A graph network maps features $X$ of all nodes to outputs of all nodes by propagation (`sdplip.nn.Propagate`) and layers that act
on each node alone. Features are attacked, the graph is fixed.
"""

# Note [influence]. Let K >= 0 bound how a map g of features moves: |g(X)_i - g(X')_i| <= sum_j K_ij |x_j - x'_j|, lengths being
# those of the features of one node.
#   A layer that acts on each node alone with constant L: K = L I.     Propagation by A: K = |A|, by the triangle inequality.
#   Composition: the product, because entries are nonnegative.          Sums: the sum; x + f(x): I + K_f.
#   Branches side by side in the features: the root of the sum of squares, entry by entry (Minkowski, for each pair of nodes:
#   |(a_i, b_i)| <= |sum_j (K_ij, K'_ij) |x_j - x'_j|| <= sum_j |(K_ij, K'_ij)| |x_j - x'_j|).
# Against a change of length r of all features together node i then moves by at most |row i of K|_2 r (Cauchy and Schwarz),
# against one of node j by K_ij r. For k propagations by A >= 0 and layers with product P, K = P A^k.

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from sdplip.arithmetic.rounding import gamma, up
from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn.activations import Abs, GroupSort, Householder, MaxMin
from sdplip.nn.bounds.dispatch import Context, Shape, lipschitz
from sdplip.nn.bounds.normalisation import DROPOUTS
from sdplip.nn.bounds.pairwise import row_distances
from sdplip.nn.bounds.propagation import edges_of
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.containers import Concatenate, Residual, Scale, Sum
from sdplip.nn.given import one_of, tensor
from sdplip.nn.heads import LastLayerNormalised
from sdplip.nn.propagate import Propagate
from sdplip.nn.residual import ResidualLinear
from sdplip.nn.sandwich import Sandwich
from sdplip.robustness.arithmetic import device_of, network_in, plain_arithmetic
from sdplip.robustness.certification import SCOPES, Rounding, Scope
from sdplip.robustness.forward_error import REACH, output_error
from sdplip.robustness.radii import MarginError, certified_radius, predictions
from sdplip.robustness.rounding_flow import Affine, is_head
from sdplip.shapes import said, short

Attacked = Literal["all", "one"] | int
"""Whose features change: those of all nodes together, of any one node, or of the node of that number."""

ON_FEATURES = (nn.Linear, LastLayerNormalised, ResidualLinear, Sandwich)
"""Layers that act on the last axis."""

ENTRYWISE = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Tanh, nn.Tanhshrink, nn.Softshrink, nn.Softsign, nn.LogSigmoid, nn.CELU, nn.Identity,
    nn.Sigmoid, nn.Hardsigmoid, nn.SELU, nn.LeakyReLU, nn.ELU, nn.Softplus, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, Abs, Scale,
    *DROPOUTS,
)  # fmt: skip
"""Layers that act on each entry alone, or, as dropout in eval mode, not at all."""

ALONG = (MaxMin, GroupSort, Householder)
"""Activations of groups along their `dim`."""


@dataclass(frozen=True, eq=False)
class NodeConstants:
    r"""Proven constants of the nodes of a graph network.

    Attributes:
        influence: `(nodes, nodes)`, sparse: $K$ of Note [influence] of everything before the head, rounded up.
        margins: `(classes, classes)`, of the margins of a node when what enters the head moves by 1: distances of the rows of a
            linear head, else $\sqrt 2$; 0 on the diagonal.
    """

    influence: sparse.csr_array
    margins: Float[np.ndarray, "classes classes"]

    __repr__ = short

    def of(self, attacked: Attacked = "all") -> Float[np.ndarray, " nodes"]:
        """How far what enters the head moves at each node, if features move by 1; times `margins` it is the constant of margins.

        Raises:
            InvalidProblem: no such node.
        """
        K, nodes = self.influence, len(self.influence.indptr) - 1
        if isinstance(attacked, str) and attacked == "all":
            squares = (K * K).sum(1)
            return np.nextafter(np.sqrt(squares) * (1 + gamma(nodes + 4)), np.inf)
        if isinstance(attacked, str) and attacked == "one":
            return K.max(axis=1).toarray().reshape(-1)
        if not isinstance(attacked, int) or not 0 <= attacked < nodes:
            raise InvalidProblem(
                f"`attacked` must be 'all', 'one' or a node from 0 to {nodes - 1}, but is {said(attacked)}."
            )
        return K[:, [attacked]].toarray().reshape(-1)


@dataclass(frozen=True, eq=False)
class NodeRadii:
    """Certified radii of the nodes of one graph.

    Attributes:
        prediction: class of each node.
        radius: while the attacked features move by less than this, in the Frobenius norm, the same class is predicted; 0 if
            nothing is proven, at most `REACH`.
        constants: of the nodes.
        bound: of the network as a whole, to compare with.
        attacked: whose features change.
        rounding: "proven" if a bound of all rounding errors was subtracted, "float64" if a module has none.
        scope: whose prediction is certified, as in `certify_accuracy`.
    """

    prediction: Int[np.ndarray, " nodes"]
    radius: Float[np.ndarray, " nodes"]
    constants: NodeConstants
    bound: Bound
    attacked: Attacked
    rounding: Rounding
    scope: Scope

    __repr__ = short


def node_constants(model: nn.Module, input_shape: Shape) -> NodeConstants:
    """Proven constants of each node of a graph network, by Note [influence].

    Args:
        model: layers on nodes and `Propagate`, in `nn.Sequential`, `Residual`, `Sum`, `Concatenate`.
        input_shape: `(nodes, features)`.

    Raises:
        RefusedModule: a module that mixes nodes in another way, or has no bound.
    """
    if not isinstance(input_shape, tuple | list) or len(input_shape) != 2:
        raise InvalidProblem(f"`input_shape` must be (nodes, features), but is {said(input_shape)}.")
    lipschitz(model, input_shape=tuple(input_shape))  # refuses what no rule below looks at, such as hooks
    classes = (Context("", tuple(input_shape)).output_shape(model) or (0,))[-1]
    head = isinstance(model, nn.Sequential) and lipschitz.known(model) and len(model) and is_head(model[-1])
    body = nn.Sequential(*list(model)[:-1]) if head and isinstance(model, nn.Sequential) else model
    K, _ = _influence(body, Context("", tuple(input_shape)))
    if head and isinstance(model, nn.Sequential):
        margins = row_distances(model[-1])
    else:
        margins = up(2**0.5) * (1 - np.eye(classes))
    return NodeConstants(K, margins)


def node_radii(
    model: nn.Module, features: Tensor, *, attacked: Attacked = "all", scope: Scope = "computed"
) -> NodeRadii:
    """Predictions and certified radii of all nodes of a graph, in double precision.

    Args:
        model: `(1, nodes, features)` to `(1, nodes, classes)`, as `node_constants` takes it; a copy in eval mode is certified.
        features: `(nodes, features)`.
        attacked: whose features change.
        scope: "computed" counts rounding at the features and around them, "exact" at the features alone.

    Raises:
        RefusedModule: as `node_constants`.
        InvalidProblem: features of another shape, or not finite.
    """
    features = tensor("features", features)
    one_of("scope", scope, SCOPES)
    if features.ndim != 2 or not features.numel() or not bool(features.isfinite().all()):
        raise InvalidProblem(
            f"`features` must be finite, of shape (nodes, features), but have {tuple(features.shape)}. A sample is the whole graph."
        )
    network = network_in(model, "float64")
    x = features[None].to(device_of(network), torch.float64)
    with plain_arithmetic(x.device), torch.no_grad():
        bound = lipschitz(network, input_shape=tuple(features.shape))
        constants = node_constants(network, tuple(features.shape))
        reach = constants.of(attacked)
        try:
            y, lost, _ = output_error(network, bound)(x, Affine(np.zeros(1), 1.0))
        except RefusedModule:
            y, lost = network(x), None
    if y.ndim != 3 or y.shape[:2] != (1, len(features)):
        raise InvalidProblem(f"The network must return (1, nodes, classes), but returns {tuple(y.shape)}.")
    logits, error = y[0], None
    if lost is not None:
        pair, each = up(2**0.5) * lost, np.ones((1, logits.shape[1]))
        error = MarginError(pair.constant[0] * each, pair.slope * each)
        error = error.here_and_around() if scope == "computed" else error.here()
    radius = [
        certified_radius(logits[i : i + 1], np.nextafter(L * constants.margins, np.inf), error=error)[0]
        for i, L in enumerate(reach)
    ]
    return NodeRadii(
        predictions(logits),
        np.minimum(np.array(radius), REACH),
        constants,
        bound,
        attacked,
        "float64" if error is None else "proven",
        scope,
    )


def _influence(module: nn.Module, context: Context) -> tuple[sparse.csr_array, Shape]:
    """K of a module on features of the shape of the context, and the shape behind it."""
    shape = context.input_shape
    assert shape is not None
    nodes, cls = shape[0], lipschitz.registered(module)
    eye = sparse.csr_array(sparse.eye_array(nodes))
    if not lipschitz.known(module):
        raise _mixes(module, context, "its class has no rule")
    after = context.output_shape(module)
    if after is None or len(after) != 2 or after[0] != nodes:
        raise _mixes(module, context, f"it makes {after} of features of shape {shape}")
    if cls is Propagate:
        return abs(edges_of(module, context)), after  # pyright: ignore[reportArgumentType]
    if cls is nn.Sequential:
        K, at = eye, shape
        for name, child in module._modules.items():
            assert child is not None
            M, at = _influence(child, _below(context, name, at))
            K = _product(M, K)
        return K, at
    if isinstance(module, Residual):
        K, _ = _influence(module.branch, _below(context, "branch", shape))
        return _above(K + eye, 1), after
    if isinstance(module, Sum | Concatenate):
        parts = [
            _influence(branch, _below(context, f"branches.{k}", shape))[0]
            for k, branch in enumerate(module.branches)
        ]
        if isinstance(module, Sum):
            return _above(sum(parts[1:], parts[0]), len(parts)), after
        if module.dim not in (-1, 2):
            raise _mixes(
                module, context, f"it puts branches side by side along axis {module.dim}, not the features'"
            )
        squares = [K * K for K in parts]
        total = sparse.csr_array(sum(squares[1:], squares[0]))
        total.data = np.sqrt(total.data)
        return _above(total, len(parts) + 2), after
    if cls not in ON_FEATURES + ENTRYWISE + ALONG:
        raise _mixes(module, context, "its class is not known to act on each node alone")
    if isinstance(module, ALONG) and module.dim not in (-1, 2):
        raise _mixes(
            module, context, f"it works along axis {module.dim}, not along the features. Use `dim=-1`"
        )
    L = lipschitz(module, input_shape=shape).value
    return _above(eye * L, 0), after


def _below(context: Context, name: str, shape: Shape) -> Context:
    return Context(f"{context.path}.{name}" if context.path else name, shape)


def _mixes(module: nn.Module, context: Context, why: str) -> RefusedModule:
    return context.refuse(
        module,
        f"{why}, so constants of nodes are not known. Layers on features, activations and `Propagate` are; for the whole graph use"
        " `lipschitz` and `pairwise_lipschitz`.",
    )


def _product(M: sparse.csr_array, K: sparse.csr_array) -> sparse.csr_array:
    """At least the product of nonnegative matrices, entry by entry."""
    longest = int(np.diff(M.indptr).max(initial=0))
    return _above(sparse.csr_array(M @ K), longest)


def _above(K: sparse.csr_array, terms: int) -> sparse.csr_array:
    """At least a matrix of which every entry is a sum of so many nonnegative products, as computed."""
    found = sparse.csr_array(K)
    if terms:
        found.data = np.nextafter(found.data * (1 + gamma(terms + 2)), np.inf)
    return found
