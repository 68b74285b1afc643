r"""Diagonal scalings as torch modules, and statement 1: any linear layer of torch rescaled to be 1-Lipschitz.

A scaling module turns a weight into its `t`; the formulas are those of `sdplip.scalings` and `sdplip.convolution`.
`rescaled(layer, "aol")` registers the weight $W T^{-1/2}$ on a layer of torch (SLL, Theorem 1.1).
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sdplip import convolution, scalings
from sdplip.condition import gram, rescale
from sdplip.convolution import Form
from sdplip.errors import InvalidScaling, UnsupportedConvolution
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
    """

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
            v = M[:, M.diagonal().argmax()]
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
        q = self.q(K)
        if q is None:
            return convolution.aol(K, geometry, form=self.form)
        return convolution.gershgorin(K, q, geometry, form=self.form)

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


class Rescaled(nn.Module):
    r"""Parametrization $W \mapsto W T^{-1/2}$ of the weight of a linear layer or (transposed) convolution.

    `forward(weight)` is what the layer runs with, in the dtype of the raw weight. In eval mode it is computed once.

    `right_inverse` serves assignments `layer.weight = W`: the layer then runs with $W / \sqrt{\rho}$, where $\rho \ge
    \lVert W \rVert_2^2$ is the spectral radius of $|W^\top W|$ ("aol", "sll"; within each irreducible block), or the bound of the
    squared norm ("spectral"); with multi-step scalings it runs with $W T(W)^{-1/2}$. Hence every weight that "aol" or "sll" can
    produce is reproduced (it has $\rho = 1$), every weight of norm 1 by "spectral" up to its slack, and every matrix with
    orthonormal columns by all of them. A weight of smaller norm cannot be reached: this family is scaled up to its bound.

    Attributes:
        scaling: the scaling; `scaling(weight)` is the `t` of the raw weight.
    """

    def __init__(self, scaling: AbstractScaling) -> None:
        super().__init__()
        self.scaling = scaling
        self._memo = Memo()

    def forward(self, weight: Weight) -> Weight:
        if self.training or torch.compiler.is_compiling():
            return self._rescale(weight, self.scaling(weight))
        return self._memo(self._now, weight, *self.parameters())

    @torch.no_grad()
    def right_inverse(self, weight: Weight) -> Weight:
        return self._rescale(weight, self.scaling.gauge(weight) ** -2)

    def _now(self, weight: Weight, *_: Tensor) -> Weight:
        return self._rescale(weight, self.scaling.compute(weight))

    def _rescale(self, weight: Weight, t: Float[Tensor, " n"]) -> Weight:
        with torch.autocast(weight.device.type, enabled=False):
            W = weight.to(t.dtype)
            return rescale_weight(W, t, self.scaling.geometry, self.scaling.form).to(weight.dtype)

    def train(self, mode: bool = True) -> "Rescaled":
        self._memo.drop()
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> "Rescaled":
        self._memo.drop()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._memo.drop()
        super()._load_from_state_dict(*args, **kwargs)


Layer = TypeVar("Layer", bound=nn.Module)


def rescaled(
    layer: Layer, scaling: str | AbstractScaling = "aol", *, image_size: tuple[int, ...] | None = None
) -> Layer:
    r"""The layer itself, its weight now parametrized as $W T^{-1/2}$: 1-Lipschitz, whatever the raw weight becomes in training.

    Works on `nn.Linear`, `nn.Conv1d/2d/3d` (zero or circular padding, any stride, dilation, groups),
    `nn.ConvTranspose1d/2d/3d`, with the conventions of `torch.nn.utils.parametrize`: `layer.weight` is the rescaled weight,
    `layer.parametrizations.weight.original` the raw one, `layer.parametrizations.weight[0].scaling` the scaling.

    Args:
        layer: a layer of torch, of exactly that class.
        scaling: "spectral", "aol", "sll", "multi_step", or a scaling with options.
        image_size: height, width, ... of the images of a convolution, if all alike: "spectral" is then exact, and on small
            images ten times faster. `lipschitz` proves the bound for the images that it is told of, whatever stands here.

    Raises:
        UnsupportedConvolution: reflect or replicate padding, or another geometry that no theorem covers, or another class.
    """
    geometry, form = geometry_of(layer)
    if geometry is not None:
        geometry = replace(geometry, image_size=image_size)
    scaling = as_scaling(scaling)
    scaling.bind(layer.get_parameter("weight"), geometry, form)
    parametrize.register_parametrization(layer, "weight", Rescaled(scaling).train(layer.training))
    return layer


def geometry_of(layer: nn.Module) -> tuple[Geometry | None, Form]:
    r"""Geometry of a layer of torch (None for `nn.Linear`), and the form of its `t`.

    A transposed convolution is the adjoint $C^\top$ of the convolution that has its weight as kernel, cropped or extended by
    zeros. $(C^\top)^\top C^\top = C C^\top \preceq T$ is the residual form, with one `t` for each channel that it reads.
    """
    if type(layer) is nn.Linear:
        return None, "linear"
    if type(layer) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        padding = (
            {"same": None, "valid": 0}[layer.padding] if isinstance(layer.padding, str) else layer.padding
        )
        return Geometry(layer.stride, layer.padding_mode, padding, layer.dilation, layer.groups), "linear"
    if type(layer) in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d):
        assert isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
        assert not isinstance(layer.padding, str)
        return Geometry(layer.stride, "zeros", layer.padding, layer.dilation, layer.groups), "residual"
    raise UnsupportedConvolution(
        f"`{type(layer).__name__}` cannot be rescaled: its linear map is not known. Use nn.Linear, nn.Conv1d/2d/3d or"
        " nn.ConvTranspose1d/2d/3d themselves (not a subclass, and not parametrized before)."
    )


def rescale_weight(weight: Weight, t: Float[Tensor, " n"], geometry: Geometry | None, form: Form) -> Weight:
    r"""$W T^{-1/2}$ of a matrix or kernel; in the residual form of a kernel, $T^{-1/2} C$."""
    if geometry is None:
        return rescale(weight, t)
    if form == "residual":
        return rescale(weight.flatten(1).mT, t).mT.reshape(weight.shape)
    K = weight.reshape(geometry.groups, -1, *weight.shape[1:]).flatten(3).movedim(2, -1)
    return rescale(K, t.reshape(geometry.groups, 1, -1)).movedim(-1, 2).reshape(weight.shape)


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
