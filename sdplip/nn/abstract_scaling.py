"""What a diagonal scaling is as a torch module: when its `t` is computed, from what, and how long it is kept."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip import convolution
from sdplip.condition import gram
from sdplip.convolution import Form
from sdplip.convolution.frequencies import nonzero
from sdplip.errors import InvalidScaling
from sdplip.geometry import Geometry
from sdplip.nn.memo import Memo

Weight = Float[Tensor, "..."]
"""A weight as its layer stores it: `(out, in)` or `(out, in / groups, *taps)`; hidden units first in residual layers."""

Marks = dict[str, Tensor]
"""Tensors by name, without gradients."""


class AbstractScaling(nn.Module, ABC):
    r"""The diagonal $t$ of a certified $T$ for one weight: $W^\top W \preceq \mathrm{diag}(t)$ in exact arithmetic.

    `forward(weight)` returns `t` in at least single precision, whatever autocast says. In training it is computed at each call,
    or at every `refresh_every`-th call (in between it grows with the weight, and the bound holds up to what the steps since then
    changed otherwise); in eval mode once, until the weight changes. In a compiled graph it is always computed.

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
    def dense(self, W: Float[Tensor, "*layers m n"]) -> Float[Tensor, "*layers n"]:
        """`t` of a matrix; of several of them where `options` are not None."""

    @abstractmethod
    def convolution(
        self, K: Float[Tensor, "out channels *taps"], geometry: Geometry
    ) -> Float[Tensor, " channels"]:
        """`t` of a convolution, in the form `self.form`."""

    def options(self) -> tuple | None:
        """What `t` depends on besides its weight and its own parameters, where several matrices, or groups of channels, have nothing
        to do with each other: then `together` computes several at once. None if that is not so."""
        return None

    def matrices(
        self,
        W: Float[Tensor, "layers m n"],
        scalings: Sequence["AbstractScaling"],  # noqa: ARG002
    ) -> Float[Tensor, "layers n"]:
        """`t` of several matrices, with the parameters of their `scalings`, the first of which this one is."""
        return self.dense(W)

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
        if self._kept and age % self.refresh_every:
            with torch.autocast(weight.device.type, enabled=False):
                return self.followed(weight.to(precision(weight)), self._kept)
        t = self.compute(weight)
        self._kept = self.marks(weight, t)
        return t

    def compute(self, weight: Weight) -> Float[Tensor, " n"]:
        """`t` of this weight as it stands now."""
        with torch.autocast(weight.device.type, enabled=False):
            weight = weight.to(precision(weight))
            if self.geometry is not None:
                return self.convolution(weight, self.geometry)
            return self.dense(weight.mT if self.form == "residual" else weight)

    def marks(self, weight: Weight, t: Float[Tensor, " n"]) -> Marks:
        """What `followed` needs of a computation of `t`."""
        return {"t": t.detach(), "size": weight.detach().to(t.dtype).square().sum()}

    def followed(self, weight: Weight, kept: Marks) -> Float[Tensor, " n"]:
        r"""About the `t` of a weight a few steps after it was computed, as if all steps had been along the weight."""
        return kept["t"] * (weight.square().sum() / nonzero(kept["size"]))

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
        self._kept: Marks = {}
        self._age = 0

    def past(self) -> tuple[int, Marks]:
        """What `refresh_every` makes the next calls depend on, for checkpoints: calls since the start, and the last computation."""
        return self._age, self._kept

    def recall(self, age: int, kept: Marks) -> None:
        """Go on from a `past`."""
        self._age, self._kept = age, kept

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
