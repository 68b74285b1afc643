r"""A network as one system of increments: $y = A x + B v$, $f = C x + D v$, with $v$ the outputs of what is not linear in it.

For two inputs, $x, v, y, f$ are the differences of input, outputs of nonlinear variables, their arguments, and output.
Entries of a single slope are linear and leave the system, so that no multiplier is spent on them: always-on neurons,
the identity beside a residual branch, and the sum of each sorted group, which sorting preserves. What is left obeys one
inequality a multiplier:

    neuron of slopes in [alpha, beta]    (v - alpha y)(v - beta y) <= 0
    group of g sorted neurons            sum_k w_k (v_k^2 - y_k^2) <= 0,   w_k = 1 / (k (k + 1)),   k = 1 .. g - 1
    function of a group, constant c      sum_k (v_k^2 - c^2 y_k^2) <= 0,   k = 1 .. g
    length of a group                    v_1^2 - sum_k y_k^2 <= 0          (v_k = 0 for k > 1)

where for sorting $y_k = h_k^\top u$ of the group's inputs u with Helmert's vectors $h_k = (1, .., 1, -k, 0, ..)$ of
norm $\sqrt{k (k + 1)}$: sorting is 1-Lipschitz and preserves the sum, hence does not lengthen the part orthogonal to
$1$. All four are $\sum_k w_k (v_k - \alpha_k y_k)(v_k - \beta_k y_k) \le 0$. Maxima over windows are sorted pairs
(`maxima`).

An implicit layer $z = \sigma(W z + u)$ has the neurons v = z with y = W v + u: rows that use columns of their own layer. Whoever asks
for them (`implicit`) proves that the equilibria exist; all others are refused.

Rows carry their errors, because the linear parts are products of weights: each is an enclosure of the exact row.
"""

from dataclasses import dataclass, field

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import gamma
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.linear import step
from sdplip.kernel.maxima import without_maxima
from sdplip.network import Activation, Equilibrium, Grouped, Maximum, Network, Node, Norms, Sort, is_linear
from sdplip.shapes import Float, Int

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
MOST = 4096
"""Inputs and nonlinear variables of the largest system that is expanded: its matrices are dense."""


class Counted:
    """What has a slope and a multiplier for each nonlinear variable."""

    alpha: Vector
    group: Int[np.ndarray, " n"]

    @property
    def order(self) -> int:
        """Number of nonlinear variables."""
        return len(self.alpha)

    @property
    def multipliers(self) -> int:
        """Number of multipliers."""
        return int(self.group.max(initial=-1)) + 1


@dataclass(frozen=True, eq=False)
class System(Counted):
    """Increments of a network; the columns of `y` and `out` are the inputs, then the nonlinear outputs in order.

    Attributes:
        inputs: length of x.
        y: arguments of the nonlinear variables; row i uses earlier columns only, but for implicit layers.
        out: the output.
        alpha, beta: slopes of each variable, -1 and 1 within a sorted group.
        group: number of the multiplier of each variable.
        weight: its $w_k$, with a relative error of at most 2 roundings.
        depth: number of the nonlinear layer, from 1.
    """

    inputs: int
    y: Enclosure
    out: Enclosure
    alpha: Vector
    beta: Vector
    group: Int[np.ndarray, " n"]
    weight: Vector
    depth: Int[np.ndarray, " n"]


def variables(network: Network) -> int:
    """Number of nonlinear variables of the system of a network; where these are more than `MOST`, more than `MOST`."""
    least = sum(_least(network, k) for k in range(1, network.output + 1))
    return least if least > MOST else sum(_variables(node) for node in without_maxima(network).nodes)


def _least(network: Network, value: int) -> int:
    """At least the variables of a node: activations may move behind maxima, where they act on fewer entries."""
    op = network.made(value).op
    if isinstance(op, Maximum):
        return int((op.index >= 0).sum()) - len(op.index)
    moves = any(isinstance(network.made(user).op, Maximum) for user in network.users[value])
    return 0 if isinstance(op, Activation) and moves else _variables(network.made(value))


def expand(network: Network, *, implicit: bool = False) -> System:
    """The system of a network.

    Args:
        implicit: take implicit layers, of which the caller proves that the equilibria exist.

    Raises:
        NotProvable: an implicit layer, it is larger than `MOST`, or a matrix on the way has more than `LARGEST` entries.
    """
    order = network.inputs + variables(network)
    if order > MOST:
        raise NotProvable(
            f"{order} inputs and nonlinear variables are more than the {MOST} that one dense inequality takes. Use 'product'."
        )
    network = without_maxima(network)
    made = _Variables(network.inputs, order, implicit)
    rows = {0: Enclosure(np.eye(network.inputs, order), np.zeros((1, 1)))}
    try:
        for k, node in enumerate(network.nodes, 1):
            rows[k] = made.behind(node, [rows[i] for i in node.inputs])
            for i in dict.fromkeys(node.inputs):
                if network.users[i][-1] == k:
                    del rows[i]
    except InvalidProblem as error:
        raise NotProvable(str(error)) from None
    return made.system(rows[network.output])


def _variables(node: Node) -> int:
    op = node.op
    if isinstance(op, Activation):
        return int((op.alpha != op.beta).sum())
    if isinstance(op, Sort):
        return len(op.groups) * (op.groups.shape[1] - 1)
    if isinstance(op, Equilibrium):
        return op.outputs
    return op.groups.size if isinstance(op, Grouped | Norms) else 0


@dataclass(eq=False)
class _Variables:
    """The nonlinear variables so far."""

    inputs: int
    columns: int
    implicit: bool
    y: list[Enclosure] = field(default_factory=list)
    alpha: list[Vector] = field(default_factory=list)
    beta: list[Vector] = field(default_factory=list)
    group: list[Int[np.ndarray, " n"]] = field(default_factory=list)
    weight: list[Vector] = field(default_factory=list)
    count: int = 0
    groups: int = 0

    def behind(self, node: Node, rows: list[Enclosure]) -> Enclosure:
        """Rows behind a node, from those in front."""
        op = node.op
        if is_linear(op):
            return step(node, rows)
        if isinstance(op, Activation):
            return self._slopes(op, rows[0])
        if isinstance(op, Sort):
            return self._sort(op, rows[0])
        if isinstance(op, Grouped | Norms):
            return self._group(op, rows[0])
        if isinstance(op, Equilibrium) and self.implicit:
            return self._equilibrium(op, rows[0])
        raise NotProvable(f"A {node.title} has no place in a system of increments.")

    def system(self, out: Enclosure) -> System:
        nothing = Enclosure(np.zeros((0, self.columns)), np.zeros((1, 1)))
        mids = np.concatenate([nothing.mid, *(y.mid for y in self.y)])
        rads = np.concatenate([nothing.mid, *(y.radius() for y in self.y)])
        depths = [np.full(len(alpha), k) for k, alpha in enumerate(self.alpha, 1)]
        whole, real = np.zeros(0, int), np.zeros(0)
        return System(
            self.inputs,
            Enclosure(mids, rads),
            out,
            alpha=np.concatenate([real, *self.alpha]),
            beta=np.concatenate([real, *self.beta]),
            group=np.concatenate([whole, *self.group]),
            weight=np.concatenate([real, *self.weight]),
            depth=np.concatenate([whole, *depths]),
        )

    def _new(
        self, y: Enclosure, alpha: Vector, beta: Vector, sizes: int, weight: Vector
    ) -> Int[np.ndarray, " n"]:
        """Adds variables, `sizes` of them to a group, and returns their columns."""
        n = len(alpha)
        self.y.append(y)
        self.alpha.append(alpha)
        self.beta.append(beta)
        self.weight.append(weight)
        self.group.append(self.groups + np.arange(n) // sizes)
        columns = self.inputs + self.count + np.arange(n)
        self.count += n
        self.groups += n // sizes
        return columns

    def _slopes(self, op: Activation, S: Enclosure) -> Enclosure:
        curved = np.flatnonzero(op.alpha != op.beta)
        found = S * np.where(op.alpha == op.beta, op.alpha, 0.0)[:, None]
        mid, rad = found.mid, np.array(found.radius())
        at = self._new(S[curved], op.alpha[curved], op.beta[curved], 1, np.ones(len(curved)))
        mid[curved], rad[curved] = 0.0, 0.0
        mid[curved, at] = 1.0
        return Enclosure(mid, rad)

    def _sort(self, op: Sort, S: Enclosure) -> Enclosure:
        count, size = op.groups.shape
        if size == 1:
            return S
        own = [S[op.groups[:, i]] for i in range(size)]
        totals = [own[0]]
        for part in own[1:]:
            totals.append(totals[-1] + part)
        rows = [totals[k - 1] - own[k] * float(k) for k in range(1, size)]
        order = np.arange(count * (size - 1)).reshape(size - 1, count).T.reshape(-1)  # group by group
        y = Enclosure(
            np.concatenate([row.mid for row in rows])[order],
            np.concatenate([row.radius() for row in rows])[order],
        )
        ones, k = np.ones(len(order)), np.arange(1, size)
        weight = 1.0 / (k * (k + 1.0))
        at = self._new(y, -ones, ones, size - 1, np.tile(weight, count)).reshape(count, size - 1)
        mean = totals[-1] * (1.0 / size)
        rounded = gamma(2) * mean.magnitude() if size & (size - 1) else 0.0
        mid, rad = S.mid.copy(), np.array(S.radius())
        for i in range(size):
            own_mid, own_rad = mean.mid.copy(), mean.radius() + rounded
            for j in range(max(i, 1), size):  # v_i = mean + sum_j h_j[i] p_j / (j (j + 1))
                entry = (1.0 if i < j else -float(j)) * weight[j - 1]
                own_mid[np.arange(count), at[:, j - 1]] = entry
                own_rad[np.arange(count), at[:, j - 1]] = 0.0 if j == 1 else gamma(4) * abs(entry)
            mid[op.groups[:, i]], rad[op.groups[:, i]] = own_mid, own_rad
        return Enclosure(mid, rad)

    def _group(self, op: Grouped | Norms, S: Enclosure) -> Enclosure:
        constant = op.constant if isinstance(op, Grouped) else 1.0
        count, size = op.groups.shape
        members, ones = op.groups.reshape(-1), np.ones(count * size)
        at = self._new(S[members], -constant * ones, constant * ones, size, ones)
        if isinstance(op, Norms):
            members, at = np.arange(count), at[::size]
        mid = np.zeros((op.outputs, S.shape[1]))
        mid[members, at] = 1.0
        return Enclosure(mid, np.zeros((1, 1)))

    def _equilibrium(self, op: Equilibrium, S: Enclosure) -> Enclosure:
        n, slopes = op.outputs, op.activation
        own = np.zeros((n, self.columns))
        own[:, self.inputs + self.count + np.arange(n)] = op.W
        at = self._new(S + Enclosure.exact(own), slopes.alpha, slopes.beta, 1, np.ones(n))
        mid = np.zeros((n, self.columns))
        mid[np.arange(n), at] = 1.0
        return Enclosure(mid, np.zeros((1, 1)))
