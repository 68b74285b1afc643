"""Diagonal scalings as torch modules: each turns a weight into its `t`, by the formulas of `sdplip.scalings` and
`sdplip.convolution`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip import convolution, scalings
from sdplip.condition import gram
from sdplip.convolution import Form
from sdplip.errors import InvalidScaling
from sdplip.geometry import Geometry
from sdplip.nn import frequencies, rowsums
from sdplip.nn.memo import Memo

Weight = Float[Tensor, "..."]
"""A weight as its layer stores it: `(out, in)` or `(out, in / groups, *taps)`; hidden units first in residual layers."""


class AbstractScaling(nn.Module, ABC):
    r"""The diagonal $t$ of a certified $T$ for one weight: $W^\top W \preceq \mathrm{diag}(t)$ in exact arithmetic.

    `forward(weight)` returns `t` in at least single precision, whatever autocast says. In training it is computed at each call,
    or at every `refresh_every`-th call (in between it is a constant of the past, and the bound holds up to what the steps since
    then changed); in eval mode once, until the weight changes. In a compiled graph it is always computed.

    A layer calls `bind` once and says what the weight is.

    Attributes:
        geometry: how the convolution moves, None for a matrix.
        form: "linear" ($t$ on input channels) or "residual" ($t$ on hidden channels).
        refresh_every: calls with gradient in training from one computation to the next.
        given: a weight and its `t`, within a block of `together`; else None.
    """

    given: tuple[Tensor, Tensor] | None

    def __init__(self, *, refresh_every: int = 1) -> None:
        super().__init__()
        if refresh_every < 1:
            raise ValueError(f"`refresh_every` must be a whole number of at least 1, but is {refresh_every}.")
        self.refresh_every = refresh_every
        self.geometry: Geometry | None = None
        self.form: Form = "linear"
        self._bound = False
        self._memo = Memo()
        self._drop()

    @abstractmethod
    def dense(self, W: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:
        """`t` of a matrix."""

    @abstractmethod
    def convolution(
        self, K: Float[Tensor, "out channels *taps"], geometry: Geometry
    ) -> Float[Tensor, " channels"]:
        """`t` of a convolution, in the form `self.form`."""

    def options(self) -> tuple | None:
        """What `t` of a convolution depends on besides its weight and its own parameters, where groups of channels have nothing
        to do with each other: then `together` computes several at once. None if that is not so."""
        return None

    def convolutions(
        self,
        K: Float[Tensor, "out channels *taps"],
        geometry: Geometry,
        scalings: Sequence["AbstractScaling"],  # noqa: ARG002
    ) -> Float[Tensor, " channels"]:
        """`t` of several kernels side by side as groups of channels, with the parameters of their `scalings`, the first of
        which this one is."""
        return self.convolution(K, geometry)

    def weights(self, weight: Weight) -> Float[Tensor, " n"] | None:  # noqa: ARG002
        """The Gershgorin weights $q$ of this scaling in the precision of `t`; None if it has no Perron gauge."""
        return None

    def extra_parameters(self, n: int, weight: Tensor) -> None:
        """Create the parameters of a scaling of `n` numbers, on the device and in the dtype of `weight`."""

    def bind(self, weight: Tensor, geometry: Geometry | None, form: Form) -> None:
        """Say once what the weight is. Refuses a second layer: two layers cannot share one `t`.

        Raises:
            UnsupportedConvolution: no theorem covers the geometry.
        """
        if self._bound:
            raise InvalidScaling("This scaling already belongs to a layer. Make a new one for each layer.")
        if geometry is not None:
            geometry.expand(weight.shape)
        self.geometry, self.form, self._bound = geometry, form, True
        self.extra_parameters(self.length(weight), weight)

    def length(self, weight: Weight) -> int:
        """The length of `t`."""
        if self.form == "residual":
            return weight.shape[0]
        return weight.shape[1] * (1 if self.geometry is None else self.geometry.groups)

    def forward(self, weight: Weight) -> Float[Tensor, " n"]:
        if torch.compiler.is_compiling():
            return self.compute(weight)
        if self.given is not None and self.given[0] is weight:
            return self.given[1]
        if not self.training:
            return self._memo(self._now, weight, *self.parameters())
        if self.refresh_every == 1 or not torch.is_grad_enabled():
            return self.compute(weight)
        age, self._age = self._age, self._age + 1
        if self._kept is not None and age % self.refresh_every:
            return self._kept
        t = self.compute(weight)
        self._kept = t.detach()
        return t

    def compute(self, weight: Weight) -> Float[Tensor, " n"]:
        """`t` of this weight as it stands now."""
        with torch.autocast(weight.device.type, enabled=False):
            weight = weight.to(precision(weight))
            if self.geometry is not None:
                return self.convolution(weight, self.geometry)
            return self.dense(weight.mT if self.form == "residual" else weight)

    def gauge(self, weight: Weight) -> Float[Tensor, " n"]:
        r"""Positive $d$ such that the raw weight $W\,\mathrm{diag}(d)$ gives $W T^{-1/2}$ parallel to $W$, if there is one.

        For scalings of the Gershgorin family it is the Perron vector of $|G|$ over $q$: the rescaled weight is then
        $W / \sqrt{\rho(|G|)}$. For the others it is 1.
        """
        weight = weight.detach().to(precision(weight))
        q = self.weights(weight)
        if q is None:
            return weight.new_ones(self.length(weight))
        return _perron_vector(weight, self.geometry, self.form) / q

    def _now(self, weight: Weight, *_: Tensor) -> Float[Tensor, " n"]:
        return self.compute(weight)

    def _drop(self) -> None:
        """Forget what was computed from older weights."""
        self._memo.drop()
        self.given = None
        self._kept: Tensor | None = None
        self._age = 0

    def past(self) -> tuple[int, Tensor | None]:
        """What `refresh_every` makes the next calls depend on, for checkpoints: calls since the start, and the `t` in use."""
        return self._age, self._kept

    def recall(self, age: int, t: Tensor | None) -> None:
        """Go on from a `past`."""
        self._age, self._kept = age, t

    def train(self, mode: bool = True) -> "AbstractScaling":
        self._drop()
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> "AbstractScaling":  # moves of device and dtype
        self._drop()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._drop()
        super()._load_from_state_dict(*args, **kwargs)

    def extra_repr(self) -> str:
        return "" if self.refresh_every == 1 else f"refresh_every={self.refresh_every}"


class Spectral(AbstractScaling):
    r"""Uniform $t_i \ge \lVert W \rVert_2^2$ by Gram iteration: spectral normalisation (statement 1), CPL (statement 2).

    A proven bound at every number of `iterations`, unlike power iteration, which converges from below. The gradient of a dense
    layer is that of the norm itself, with the top singular vector held fixed: it costs a product with a vector. That of a
    convolution is the gradient of the bound, at the one frequency where it is largest.
    """

    def __init__(self, *, iterations: int = 7, refresh_every: int = 1) -> None:
        super().__init__(refresh_every=refresh_every)
        self.iterations = iterations

    def dense(self, W: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:
        with torch.no_grad():
            square, M = scalings.gram_iteration(W, self.iterations)
            v = M.index_select(1, M.diagonal().argmax()[None])[
                :, 0
            ]  # a number as an index would be read by the host
            v = v / torch.linalg.vector_norm(v).clamp_min(torch.finfo(v.dtype).tiny)
        image = W @ v if len(v) == W.shape[-1] else v @ W  # the longer side of W has no part in M
        length = (image * image).sum()
        ratio = square / length.detach().clamp_min(torch.finfo(v.dtype).tiny)
        return (ratio * length + (square - ratio * length).detach()).expand(W.shape[-1])

    def convolution(
        self, K: Float[Tensor, "out channels *taps"], geometry: Geometry
    ) -> Float[Tensor, " channels"]:
        return convolution.spectral(
            K, geometry, form=self.form, iterations=self.iterations, search=frequencies.search
        )

    def options(self) -> tuple:
        return (self.iterations,)


class AbstractGershgorin(AbstractScaling):
    r"""$t_i = \sum_j |G_{ij}| q_j / q_i$ with weights `q`.

    Args:
        gradient_dtype: precision of the product that differentiates `t` of a wide dense layer, the dearest step of its training;
            None is full precision. `torch.bfloat16` halves its time on CPUs that have it. The value of `t` stays exact.
        product_dtype: precision of the factors of $W^\top W$ in training, for wide dense layers; None is full precision.
            `torch.bfloat16` makes training 2 to 3 times faster where the processor has units for it. While it trains, the layer
            is 1-Lipschitz up to that rounding only; in eval mode `t` is computed in full precision, and every bound is proven
            from the numbers that run.
        refresh_every: see `AbstractScaling`.
    """

    def __init__(
        self,
        *,
        gradient_dtype: torch.dtype | None = None,
        product_dtype: torch.dtype | None = None,
        refresh_every: int = 1,
    ) -> None:
        super().__init__(refresh_every=refresh_every)
        self.gradient_dtype, self.product_dtype = gradient_dtype, product_dtype

    @abstractmethod
    def q(self, weight: Weight) -> Float[Tensor, " n"] | None:
        """The weights in the precision of `weight`, None for all ones."""

    def dense(self, W: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:
        product = self.product_dtype if self.training else None
        return rowsums.gershgorin(W, self.q(W), gradient_dtype=self.gradient_dtype, product_dtype=product)

    def convolution(
        self, K: Float[Tensor, "out channels *taps"], geometry: Geometry
    ) -> Float[Tensor, " channels"]:
        return self._rows(K, geometry, self.q(K))

    def _rows(
        self, K: Float[Tensor, "out channels *taps"], geometry: Geometry, q: Float[Tensor, " channels"] | None
    ) -> Float[Tensor, " channels"]:
        if q is None:
            return convolution.aol(K, geometry, form=self.form)
        return convolution.gershgorin(K, q, geometry, form=self.form)

    def options(self) -> tuple:
        return ()

    def weights(self, weight: Weight) -> Float[Tensor, " n"]:
        q = self.q(weight)
        return weight.new_ones(()) if q is None else q


class AOL(AbstractGershgorin):
    r"""Almost-orthogonal $t_i = \sum_j |G_{ij}|$ (Prach and Lampert 2022). Options as `AbstractGershgorin`."""

    def q(self, weight: Weight) -> None:  # noqa: ARG002
        return None


class SLL(AbstractGershgorin):
    r"""$t_i = \sum_j |G_{ij}| q_j / q_i$ with learned $q = e^{\texttt{log\_q}}$ (SLL, Theorem 3); it starts as AOL.

    With a ReLU in a residual layer $q$ is a gauge: $(W, b, q)$ is the same function as $(W Q, Q b, 1)$. It shapes the training
    path then, and more than that with other activations and in statement 1. Options as `AbstractGershgorin`.
    """

    log_q: nn.Parameter

    def extra_parameters(self, n: int, weight: Tensor) -> None:
        self.log_q = nn.Parameter(weight.new_zeros(n))

    def q(self, weight: Weight) -> Float[Tensor, " n"]:
        return self.log_q.to(weight.dtype).exp()

    def convolutions(
        self,
        K: Float[Tensor, "out channels *taps"],
        geometry: Geometry,
        scalings: Sequence[AbstractScaling],
    ) -> Float[Tensor, " channels"]:
        log_q = torch.cat([scaling.get_parameter("log_q") for scaling in scalings])
        return self._rows(K, geometry, log_q.to(K.dtype).exp())


class MultiStep(AbstractScaling):
    r"""$t_i = \bigl(\sum_j |(G^p)_{ij}|\bigr)^{1/p}$: AOL at `p == 1`, and closer to the norm as `p` grows."""

    def __init__(self, p: int = 2, *, refresh_every: int = 1) -> None:
        super().__init__(refresh_every=refresh_every)
        if p < 1:
            raise ValueError(f"`p` must be a whole number of at least 1, but is {p}.")
        self.p = p

    def dense(self, W: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:
        return scalings.multi_step(W, self.p)

    def convolution(
        self, K: Float[Tensor, "out channels *taps"], geometry: Geometry
    ) -> Float[Tensor, " channels"]:
        return convolution.multi_step(K, self.p, None, geometry, form=self.form)

    def options(self) -> tuple:
        return (self.p,)


SCALINGS: dict[str, type[AbstractScaling]] = {
    "spectral": Spectral,
    "aol": AOL,
    "sll": SLL,
    "multi_step": MultiStep,
}
"""Names that the facades accept in place of a scaling."""


def as_scaling(scaling: str | AbstractScaling) -> AbstractScaling:
    """The scaling of that name, with its default options; a scaling is returned as it is."""
    if isinstance(scaling, AbstractScaling):
        return scaling
    if scaling not in SCALINGS:
        raise InvalidScaling(
            f"`scaling` must be one of {', '.join(SCALINGS)} or a scaling such as `MultiStep(4)`, but is {scaling!r}."
        )
    return SCALINGS[scaling]()


def precision(weight: Tensor) -> torch.dtype:
    """The dtype in which `t` of this weight is computed: its own, but at least single precision."""
    return torch.promote_types(weight.dtype, torch.float32)


def _perron_vector(
    weight: Weight, geometry: Geometry | None, form: Form, steps: int = 500
) -> Float[Tensor, " n"]:
    r"""Positive $d$ with $|G| d = \rho d$, nearly; with a stride, the worst phase of each channel counts. Mean 1.

    Power iteration until the brackets of Collatz and Wielandt stand still. Any positive vector would be valid.
    """
    if geometry is None:
        S = abs(gram(weight if form == "linear" else weight.mT))[None, :, None, :, None]
    else:
        A = convolution.autocorrelation(weight, geometry, form=form)
        n = (weight.shape[0] // geometry.groups) if form == "residual" else weight.shape[1]
        S = abs(A.flatten(3)).sum(-1).reshape(A.shape[0], n, -1, n, A.shape[1] // n)
    S = S.sum(-1)
    d = S.new_ones(S.shape[0], S.shape[1], 1)
    ratio = d * 0
    for _ in range(steps):
        Sd = (S.flatten(1, 2) @ d).reshape(S.shape[:3]).amax(2, keepdim=True)
        before, ratio = ratio, Sd / d
        d = torch.where(Sd > 0, Sd, d)
        d = (d / d.mean()).clamp_min(1e-12)
        if bool((abs(ratio - before) <= 4 * torch.finfo(d.dtype).eps * ratio).all()):
            break
    return d.flatten()
