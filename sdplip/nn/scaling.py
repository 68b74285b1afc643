"""Diagonal scalings as torch modules: each turns a weight into its `t`, by the formulas of `sdplip.scalings` and
`sdplip.convolution`.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip import convolution, scalings
from sdplip.convolution.frequencies import nonzero
from sdplip.errors import InvalidScaling
from sdplip.geometry import Geometry
from sdplip.nn import frequencies, rowsums
from sdplip.nn.abstract_scaling import AbstractScaling, Marks, Weight


class Spectral(AbstractScaling):
    r"""Uniform $t_i \ge \lVert W \rVert_2^2$ by Gram iteration: spectral normalisation (statement 1), CPL (statement 2).

    A proven bound at every number of `iterations`, unlike power iteration, which converges from below. The gradient of a dense
    layer is that of the norm itself, with the top singular vector held fixed: it costs a product with a vector. That of a
    convolution is the gradient of the bound, at the one frequency where it is largest.
    """

    def __init__(self, *, iterations: int = 7, refresh_every: int = 1) -> None:
        super().__init__(refresh_every=refresh_every)
        self.iterations = iterations

    def dense(self, W: Float[Tensor, "*layers m n"]) -> Float[Tensor, "*layers n"]:
        with torch.no_grad():
            square, M = scalings.gram_iteration(W, self.iterations, rowsums.half_gram)
            v = _longest_row(M)
            v = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
            square = square[..., None]
        image = (
            W @ v[..., None] if v.shape[-1] == W.shape[-1] else v[..., None, :] @ W
        )  # M is of the shorter side of W
        length = (image * image).sum((-2, -1))[..., None]
        ratio = square / length.detach().clamp_min(torch.finfo(v.dtype).tiny)
        return (ratio * length + (square - ratio * length).detach()).expand(*W.shape[:-2], W.shape[-1])

    def convolution(
        self, K: Float[Tensor, "out channels *taps"], geometry: Geometry
    ) -> Float[Tensor, " channels"]:
        return convolution.spectral(
            K, geometry, form=self.form, iterations=self.iterations, search=frequencies.search
        )

    def options(self) -> tuple:
        return (self.iterations,)

    def marks(self, weight: Weight, t: Float[Tensor, " n"]) -> Marks:
        kept = super().marks(weight, t)
        if not t.requires_grad:
            return kept
        (slope,) = torch.autograd.grad(t.sum(), weight, retain_graph=True)
        slope = slope.to(t.dtype)
        if self.geometry is None:  # a slope of rank one
            row = torch.linalg.vector_norm(slope, dim=1).argmax(0, keepdim=True)
            kept["top"] = nn.functional.normalize(slope.index_select(0, row)[0], dim=0)
            kept["size"] = (weight.detach() @ kept["top"]).square().sum()
        else:
            kept["slope"], kept["size"] = slope, self._along(slope, weight.detach())
        return kept

    def followed(self, weight: Weight, kept: Marks) -> Float[Tensor, " n"]:
        """Of a matrix, by the length of the image of the top singular vector, which a step of power iteration follows; of a
        convolution, by the part of the kernel along the slope of its norm, which stays the one of the last computation."""
        if "slope" in kept:
            ratio = (self._along(kept["slope"], weight) / nonzero(kept["size"])).square()
            return kept["t"] * ratio.repeat_interleave(len(kept["t"]) // len(ratio))
        if "top" not in kept:
            return super().followed(weight, kept)
        with torch.no_grad():
            kept["top"] = nn.functional.normalize(weight.mT @ (weight @ kept["top"]), dim=0)
        return kept["t"] * ((weight @ kept["top"]).square().sum() / nonzero(kept["size"]))

    def _along(self, slope: Weight, weight: Weight) -> Float[Tensor, " groups"]:
        """The inner product of both in each group of channels of a convolution."""
        assert self.geometry is not None
        return (slope * weight).reshape(self.geometry.groups, -1).sum(1)


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

    def dense(self, W: Float[Tensor, "*layers m n"]) -> Float[Tensor, "*layers n"]:
        return self._dense(W, self.q(W))

    def _dense(
        self, W: Float[Tensor, "*layers m n"], q: Float[Tensor, "*layers n"] | None
    ) -> Float[Tensor, "*layers n"]:
        product = self.product_dtype if self.training else None
        return rowsums.gershgorin(W, q, gradient_dtype=self.gradient_dtype, product_dtype=product)

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
        return self.gradient_dtype, self.product_dtype

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

    def matrices(
        self, W: Float[Tensor, "layers m n"], scalings: Sequence[AbstractScaling]
    ) -> Float[Tensor, "layers n"]:
        log_q = torch.stack([scaling.get_parameter("log_q") for scaling in scalings])
        return self._dense(W, log_q.to(W.dtype).exp())

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

    def dense(self, W: Float[Tensor, "*layers m n"]) -> Float[Tensor, "*layers n"]:
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


def _longest_row(M: Float[Tensor, "*layers k k"]) -> Float[Tensor, "*layers k"]:
    """The row of a symmetric matrix whose diagonal entry is largest. A number as an index would be read by the host."""
    top = M.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    return M.gather(-2, top.expand(*M.shape[:-2], 1, M.shape[-1]))[..., 0, :]
