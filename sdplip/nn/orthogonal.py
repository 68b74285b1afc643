r"""Orthogonal layers of torch by parametrization, and circular convolutions that are orthogonal at each frequency."""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.nn import fourier
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.adaptive import AdaptiveOrthogonal
from sdplip.nn.cayley import cayley
from sdplip.nn.kept import AbstractKept
from sdplip.nn.manifold import put_on_manifold
from sdplip.nn.memo import Memo
from sdplip.nn.orthonormal import BlockReflector, CholeskyOrthogonal, reflector
from sdplip.nn.rescaled import geometry_of
from sdplip.shapes import said

Method = Literal["exp", "cayley", "householder", "cholesky", "bro", "aoc", "manifold"]
MAPS = {
    "exp": parametrizations._OrthMaps.matrix_exp,
    "cayley": parametrizations._OrthMaps.cayley,
    "householder": parametrizations._OrthMaps.householder,
}
"""Parametrizations of torch itself."""

Layer = TypeVar("Layer", bound=nn.Module)


def orthogonal(layer: Layer, method: Method | None = None) -> Layer:
    r"""The layer itself, its weight now parametrized so that in exact arithmetic every singular value is 1.

    In training the weight is computed anew at each forward; in eval mode once, until a parameter changes (`Memo`). `export_plain`
    gives the network with ordinary weights, which `torch.save` takes.

    Dense layers, `nn.Linear`:

    - "exp" (if None), "cayley", "householder": the maps of `torch.nn.utils.parametrizations`, and our own `TallCayley` where one side
      is at least twice the other.
    - "cholesky": the orthonormal factor of the free matrix (`CholeskyOrthogonal`).
    - "bro": a block reflector, square or cut (`BlockReflector`).

    Convolutions, `nn.Conv1d/2d/3d` and `nn.ConvTranspose1d/2d/3d`: "aoc" (if None), one explicit kernel that is composed once a step
    (`AdaptiveOrthogonal`), with any kernel size, stride, groups, unequal channels, and every dilation that lets no two taps of a patch
    meet. An isometry where the channels times the pixels of a patch suffice, else the adjoint of one; in transposed layers the other
    way round. Circular padding keeps every singular value at 1 on images that the stride divides; with zero padding borders lose
    something, and the norm stays at most 1 on every image.

    Both: "manifold", for training with `sdplip.training.optimisers.Muon`. The weight becomes its polar factor and stays an ordinary
    parameter, with nothing in the graph: the optimiser keeps it orthogonal, and `lipschitz` proves the norm of the weight as it stands, 1 up
    to rounding or more. Of convolutions those with kernels of one pixel, or as large as their stride.

    Raises:
        UnsupportedConvolution: another class of layer, reflect or replicate padding, circular padding that repeats outputs, or stride and
            dilation with a common factor.
        InvalidWeight: a method that this class of layer does not have.
    """
    _check(layer)
    if method is not None and not isinstance(method, str):
        raise InvalidWeight(f"`method` must be a name or None, but is {said(method)}.")
    if method == "manifold":
        if type(layer) is not nn.Linear:
            geometry_of(layer)  # refuses other classes
        put_on_manifold(layer)
        return layer
    if type(layer) is nn.Linear:
        return _orthogonal_linear(layer, "exp" if method is None else method)  # pyright: ignore[reportReturnType]
    geometry, _ = geometry_of(layer)
    assert geometry is not None
    if method not in (None, "aoc"):
        raise InvalidWeight(
            f"`method` of a convolution must be aoc or manifold, but is {method!r}: a kernel with orthogonal slices is no orthogonal convolution"
            " (norms up to 9 were measured)."
        )
    weight = layer.get_parameter("weight")
    kernel = AdaptiveOrthogonal(tuple(weight.shape), geometry.expand(weight.shape))
    kernel.build(weight)
    parametrize.register_parametrization(layer, "weight", kernel.train(layer.training))
    return layer


def _check(layer: nn.Module) -> None:
    """Refuses layers without a weight of finite real numbers to start from."""
    for name, weight in layer.named_parameters() if isinstance(layer, nn.Module) else ():
        if isinstance(weight, nn.parameter.UninitializedParameter) or weight.is_meta:
            raise InvalidWeight(f"`{name}` has no numbers yet. Run the layer once, or build it on a device.")
        if weight.is_complex():
            raise InvalidWeight(f"`{name}` is complex, and no rule covers that. Use a real layer.")


def _orthogonal_linear(layer: nn.Linear, method: str) -> nn.Linear:
    long, short = max(layer.weight.shape), min(layer.weight.shape)
    own: dict[str, Any] = {
        "cholesky": CholeskyOrthogonal,
        "bro": lambda: BlockReflector(*layer.weight.shape),
        **({"cayley": TallCayley} if long >= 2 * short else {}),
    }
    if method not in {**MAPS, **own}:
        known = ", ".join([*MAPS, "cholesky", "bro", "manifold"])
        raise InvalidWeight(f"`method` of nn.Linear must be one of {known}, but is {method!r}.")
    step = own[method]() if method in own else Trivialised(layer.weight, MAPS[method])
    parametrize.register_parametrization(layer, "weight", step.train(layer.training))
    return layer


class Trivialised(parametrizations._Orthogonal):
    r"""torch's own orthogonal parametrization; in eval mode its weight is computed once for each state of the parameters."""

    def __init__(self, weight: Float[Tensor, "out in"], orthogonal_map: parametrizations._OrthMaps) -> None:
        super().__init__(weight, orthogonal_map)
        self._memo = Memo()

    def forward(self, X: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        if self.training or torch.compiler.is_compiling():
            return self.now(X)
        return self._memo(self.now, X, self.base)

    def now(self, X: Float[Tensor, "out in"], *_: Tensor) -> Float[Tensor, "out in"]:
        """The weight of the free matrix as it stands."""
        with torch.autocast(X.device.type, enabled=False):
            return super().forward(X)

    def train(self, mode: bool = True) -> "Trivialised":
        self._memo.drop()
        return super().train(mode)


class TallCayley(AbstractKept):
    r"""Parametrization by the Cayley transform of a rectangular matrix: systems of its shorter side, where torch solves those of
    its longer one (4096 to 512 features: 20 times faster). Orthonormal rows or columns, whichever are fewer.

    An assigned weight is replaced by its polar factor $Q = \binom{A}{B}$, and $Z = (I + A)^{-1} (I - A)$ gives it back.
    """

    def now(self, *free: Tensor) -> Float[Tensor, "out in"]:
        (weight,) = free
        with torch.autocast(weight.device.type, enabled=False):
            return _upright(cayley(_upright(weight.to(precision(weight)), weight)), weight).to(weight.dtype)

    @torch.no_grad()
    def right_inverse(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        """The free matrix of the orthonormal one that is nearest to `weight`.

        Raises:
            InvalidWeight: that one has the eigenvalue -1 in its square block, where the Cayley transform is not defined.
        """
        P, _, R = torch.linalg.svd(_upright(weight.double(), weight), full_matrices=False)
        n, Q = R.shape[0], P @ R
        I = torch.eye(n, dtype=Q.dtype, device=Q.device)  # noqa: E741
        Z, failed = torch.linalg.solve_ex(I + Q[:n], I - Q[:n])
        V = -Q[n:] @ (I + Z) / 2
        free = torch.cat([(Z - Z.mT) / 4, V])
        if failed or not (cayley(free) - Q).norm() <= 1e-6 * n**0.5:
            raise InvalidWeight(
                "This weight has no Cayley transform: its orthonormal factor has the eigenvalue -1. Assign another weight, or"
                " use the method 'exp'."
            )
        return _upright(free, weight).to(weight.dtype)


def _upright(matrix: Tensor, like: Tensor) -> Tensor:
    """The matrix, transposed if `like` is wider than tall."""
    return matrix if like.shape[0] >= like.shape[1] else matrix.mT


class AbstractFourierConv2d(nn.Module, ABC):
    r"""Orthogonal circular convolution on images of one size, by a matrix $Q(\omega)$ at each frequency.

    $\hat y(\omega) = Q(\omega) \hat x(\omega)$ plus a bias, with $Q^* Q = I$ (`out_channels >= in_channels`, an isometry) or
    $Q Q^* = I$ (a co-isometry). The discrete Fourier transform is unitary, so every singular value of the layer is 1.
    Rounding enters through $Q$: a proof looks at the matrices of `symbol()`, one a frequency, which are what forward
    multiplies with; frequencies left out are complex conjugates of those given.

    Attributes:
        weight: free kernel, its last two axes the taps.
        bias: one entry an output channel, or None.
        image_size: height and width of every input.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        image_size: tuple[int, int],
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        taps = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        if min(in_channels, out_channels, *taps) < 1 or any(
            k > h for k, h in zip(taps, image_size, strict=True)
        ):
            raise InvalidWeight(
                f"`{type(self).__name__}` needs positive sizes and a kernel that fits into the image, but has {in_channels} and"
                f" {out_channels} channels and a kernel of {taps} on images of {image_size} pixels."
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.image_size = (image_size[0], image_size[1])
        self.weight = nn.Parameter(torch.empty(*self._free(), *taps))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self._memo = Memo()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-normal free kernel, uniform bias."""
        nn.init.xavier_normal_(self.weight)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_channels)
            nn.init.uniform_(self.bias, -bound, bound)

    def symbol(self) -> Complex[Tensor, "height half_width out_channels in_channels"]:
        r"""$Q(\omega)$ on the half grid of `torch.fft.rfft2`, in at least single precision. In eval mode it is computed once."""
        if self.training or torch.compiler.is_compiling():
            return self._transform(self.weight)
        return self._memo(self._transform, self.weight)

    def forward(
        self, x: Float[Tensor, "*batch in_channels height width"]
    ) -> Float[Tensor, "*batch out_channels height width"]:
        if tuple(x.shape[-2:]) != self.image_size:
            raise UnsupportedConvolution(
                f"This layer is orthogonal on images of {self.image_size} pixels, but got {tuple(x.shape[-2:])}. Build one"
                " for that size."
            )
        flat = x.reshape(-1, *x.shape[-3:])
        y = fourier.convolved(flat.to(precision(flat)), self.symbol())
        if self.bias is not None:
            y = y + self.bias[:, None, None]
        return y.reshape(*x.shape[:-3], self.out_channels, *self.image_size).to(x.dtype)

    @abstractmethod
    def _free(self) -> tuple[int, int]:
        """Channels of the free kernel."""

    @abstractmethod
    def _orthonormal(self, W: Complex[Tensor, "height half_width rows n"]) -> Tensor:
        """$Q$ of the Fourier transform of the free kernel."""

    def _transform(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            return self._orthonormal(fourier.transformed(weight.to(precision(weight)), self.image_size))

    def train(self, mode: bool = True) -> "AbstractFourierConv2d":
        self._memo.drop()
        return super().train(mode)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, image_size={self.image_size}"


class CayleyConv2d(AbstractFourierConv2d):
    r"""`AbstractFourierConv2d` by the Cayley transform of the kernel's transform, `weight` being `(larger, smaller, *taps)` of the two
    channel numbers (Trockman and Kolter, ICLR 2021)."""

    def _free(self) -> tuple[int, int]:
        return max(self.in_channels, self.out_channels), min(self.in_channels, self.out_channels)

    def _orthonormal(self, W: Tensor) -> Tensor:
        Q = cayley(W)
        return Q if self.out_channels >= self.in_channels else Q.mH.resolve_conj()


class BROConv2d(AbstractFourierConv2d):
    r"""`AbstractFourierConv2d` by block reflectors $I - 2 V (V^* V)^{-1} V^*$ of the kernel's transform $V$ (BRO, Lai et al., ICML 2025).

    `weight` is `(larger, larger // 2, *taps)`, and where channel numbers differ the first rows or columns are kept. Square matrices are
    Hermitian. Where the columns of $V(\omega)$ depend on each other the layer contracts; its norm never exceeds 1 in exact arithmetic.
    """

    def _free(self) -> tuple[int, int]:
        larger = max(self.in_channels, self.out_channels)
        return larger, max(1, larger // 2)

    def _orthonormal(self, W: Tensor) -> Tensor:
        return reflector(W)[..., : self.out_channels, : self.in_channels]
