r"""Closed-form scalings of a convolution: functions $K \mapsto t$, one number a channel, repeated over the pixels.

The names and formulas of `sdplip.scalings`, with $|G|$ summed over the offsets between pixels. `t` has the length of
the input channels (`form="linear"`) or output channels (`form="residual"`), and the condition holds in exact arithmetic
for every image that `geometry` allows. NumPy and torch from one text; differentiable. A zero channel gives `t == 0` in every
Gershgorin-type scaling; `condition.inverse_scaling` handles it.

Why zero padding of any amount is covered: a convolution on a finite image selects rows and columns of the one on the
infinite image, and selecting never breaks $G \preceq T$. Reflection and replication add rows instead.
Sources: AOL (Prach and Lampert 2022), SLL (Araujo et al. 2023, Theorem 3), Gram iteration (Delattre et al. 2023, 2024).
"""

from jaxtyping import Float

from sdplip.condition import Array, normalised, perron_vector
from sdplip.convolution.frequencies import Search, largest_eigenvalue
from sdplip.convolution.kernels import autocorrelation, correlate, namespace, wrap
from sdplip.convolution.layout import EVERY_SIZE, Form, channels, layout
from sdplip.errors import InvalidScaling
from sdplip.geometry import Geometry

Kernel = Float[Array, "out channels *taps"]
Scaling = Float[Array, " n"]


def identity(K: Kernel, geometry: Geometry = EVERY_SIZE, *, form: Form = "linear") -> Scaling:
    """All ones: it asks whether the convolution is 1-Lipschitz as it stands, and need not satisfy the condition."""
    return K.reshape(-1)[: channels(K, geometry, form)] * 0 + 1


def spectral(
    K: Kernel,
    geometry: Geometry = EVERY_SIZE,
    *,
    form: Form = "linear",
    iterations: int = 7,
    samples: int = 16,
    search: Search | None = None,
) -> Scaling:
    r"""Uniform scaling within each channel group, $t_i \ge \lVert C \rVert_2^2$: spectral normalisation, CPL.

    Gram iteration at each frequency of a grid, times a factor for the frequencies in between (`frequencies.frequency_grid`):
    1.0194 for 2-D kernels and 16 `samples`, its excess falling with their square; exactly 1 for a small known `image_size`.
    `search` may replace `frequencies.worst_frequency`, by an operation that compiled graphs and function transforms know, say.
    """
    bound = largest_eigenvalue(K, geometry, iterations=iterations, samples=samples, search=search)
    t = identity(K, geometry, form=form).reshape(bound.shape[0], -1)
    return (t * bound[:, None]).reshape(-1)


def aol(K: Kernel, geometry: Geometry = EVERY_SIZE, *, form: Form = "linear") -> Scaling:
    r"""Almost-orthogonal scaling $t_i = \sum_{j,\delta} |A_{ij\delta}|$ (AOL; SLL with $q = 1$)."""
    return gershgorin(K, identity(K, geometry, form=form), geometry, form=form)


def gershgorin(K: Kernel, q: Scaling, geometry: Geometry = EVERY_SIZE, *, form: Form = "linear") -> Scaling:
    r"""SLL scaling $t_i = \sum_{j,\delta} |A_{ij\delta}| q_j / q_i$ for any $q > 0$ (SLL, Theorem 3).

    A strided linear layer has one row of $|A|$ for each phase of channel $i$; `t[i]` is the largest of their sums.

    Raises:
        InvalidScaling: `q` does not have one entry a channel.
    """
    _check_length(q, channels(K, geometry, form))
    return _weighted_rows(_absolute(autocorrelation(K, geometry, form=form), K, geometry), q)


def perron(
    K: Kernel, geometry: Geometry = EVERY_SIZE, *, form: Form = "linear", iterations: int = 10
) -> Scaling:
    r"""SLL scaling with the Perron vector of $S = \sum_\delta |A_\delta|$ as `q`: the most uniform of the Gershgorin family.

    `t` tends to the spectral radius of $S$ within each group (with a stride, $q$ has one entry a channel and phase). Any
    positive $q$ is valid, so `iterations` never touches soundness.
    """
    S = _absolute(autocorrelation(K, geometry, form=form), K, geometry)
    q = perron_vector(S, iterations)
    return _worst_phase((S * q[:, None, :]).sum(-1) / q, channels(K, geometry, form))


def multi_step(
    K: Kernel, p: int = 2, q: Scaling | None = None, geometry: Geometry = EVERY_SIZE, *, form: Form = "linear"
) -> Scaling:
    r"""Multi-step scaling $t_i = \bigl(\sum_{j,\delta} |A^{(p)}_{ij\delta}| q_j / q_i\bigr)^{1/p}$, `p >= 1`; `p == 1` is SLL.

    $A^{(p)}$ is the kernel of $G^p$. Valid because $x \mapsto x^{1/p}$ is operator monotone (Löwner and Heinz). For $p = 2^k$ the
    largest `t` is the zero-padding bound of Delattre et al. (2024); it tends to `spectral` as $p$ grows.

    Raises:
        InvalidScaling: `q` does not have one entry a channel.
    """
    if p < 1:
        raise ValueError(f"`p` must be a whole number of at least 1, but is {p}.")
    q = identity(K, geometry, form=form) if q is None else q
    _check_length(q, channels(K, geometry, form))
    A = autocorrelation(K, geometry, form=form)
    power, scale = _normalised(A)
    scale = scale ** (1 / p)
    for _ in range(p - 1):
        power, norm = _normalised(correlate(power, A))
        scale = scale * norm ** (1 / p)
    rows = _weighted_rows(_absolute(power, K, geometry), q)
    t = (rows + (rows == 0)) ** (1 / p) * (rows != 0)
    return (t.reshape(scale.shape[0], -1) * scale[:, None]).reshape(-1)


def _absolute(
    A: Float[Array, "groups N N *offsets"], K: Kernel, geometry: Geometry
) -> Float[Array, "groups N N"]:
    r"""$\sum_\delta |A_\delta|$: the absolute Gram matrix between channels. A torus first adds the offsets that it identifies."""
    A = wrap(A, layout(K, geometry).stationary.period)
    return abs(A.reshape(*A.shape[:3], -1)).sum(-1)


def _weighted_rows(S: Float[Array, "groups N N"], q: Scaling) -> Scaling:
    """Row sums of `S` with weights `q`, the largest over the phases of each channel."""
    groups, N = S.shape[:2]
    weight = q.reshape(groups, 1, -1)
    rows = (S.reshape(groups, N, weight.shape[-1], -1).sum(-1) * weight).sum(-1)
    return _worst_phase(rows, q.shape[0]) / q


def _worst_phase(rows: Float[Array, "groups N"], n: int) -> Scaling:
    """The largest entry of each channel over its phases: one `t` must serve them all."""
    return namespace(rows).amax(rows.reshape(n, -1), -1)


def _normalised(
    A: Float[Array, "groups *rest"],
) -> tuple[Float[Array, "groups *rest"], Float[Array, " groups"]]:
    """`A` divided by its Frobenius norm within each group, and that norm (1 for a zero kernel)."""
    flat, norm = normalised(A.reshape(A.shape[0], 1, -1))
    return flat.reshape(A.shape), norm


def _check_length(q: Scaling, n: int) -> None:
    if tuple(q.shape) != (n,):
        raise InvalidScaling(
            f"`q` must have one entry for each of the {n} channels that `t` scales, but has shape {tuple(q.shape)}. The linear"
            " form scales input channels, the residual form output channels."
        )
