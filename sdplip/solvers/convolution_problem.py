"""Least trace of a convolution, as plain data: one condition at every frequency of a grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex, Float

from sdplip.convolution.layout import Form, Layout, layout
from sdplip.convolution.symbols import symbol_at
from sdplip.errors import InvalidProblem, InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.solvers._arrays import excess, freeze, kernel_of, positive


@dataclass(frozen=True, eq=False)
class ConvolutionMinTrace:
    r"""Minimise $\sum_i c_i t_i$ subject to $\hat K(\omega)^* \hat K(\omega) \preceq \mathrm{diag}(t)$.

    It holds at every frequency $\omega$ of a grid. Dual: maximise
    $\sum_\omega \mu_\omega \lVert \hat K(\omega) Y_\omega \rVert_F^2$ subject to
    $\sum_\omega \mu_\omega \lVert y_{\omega i} \rVert^2 \le c_i$ for every channel i.

    Attributes:
        symbols: one matrix a frequency, `(F, m, n)`; one of each conjugate pair is enough, since t is real.
        multiplicity: how many frequencies each stands for; it only weighs the dual.
        cost: positive; ones by default.
    """

    symbols: Complex[np.ndarray, "F m n"]
    multiplicity: Float[np.ndarray, " F"] = None  # pyright: ignore[reportAssignmentType]
    cost: Float[np.ndarray, " n"] = None  # pyright: ignore[reportAssignmentType]

    def __post_init__(self):
        symbols = np.array(self.symbols, dtype=np.complex128)
        if symbols.ndim != 3 or 0 in symbols.shape or not np.isfinite(symbols).all():
            raise InvalidWeight(
                f"`symbols` must be finite, shape (frequencies, m, n), but the shape is {symbols.shape}."
            )
        freeze(self, symbols=symbols, multiplicity=positive("multiplicity", self.multiplicity, len(symbols)))
        freeze(self, cost=positive("cost", self.cost, symbols.shape[-1]))

    @classmethod
    def from_kernel(
        cls, K: Any, geometry: Geometry, form: Form = "linear", cost: Any = None
    ) -> "ConvolutionMinTrace":
        r"""The problem of a convolution layer on images of a known size.

        Circular padding: the frequencies are those of the image. Zero padding of any amount: the layer is a
        submatrix of the circular convolution on a larger image, so the condition there suffices.

        Args:
            K: kernel `(out, in / groups, *taps)`, as in torch.
            geometry: with `image_size`. A stride is covered exactly in the residual form (polyphase symbols).
            form: "linear": t on the input channels of x -> K x; "residual": t on the output channels of K in
                x -> x - 2 K^T T^{-1} sigma(K x + b).
            cost: one number a channel of t.

        Raises:
            UnsupportedConvolution: no image size, or a stride in the linear form.
        """
        K = kernel_of(K)
        axes = layout(K, geometry)
        if form not in ("linear", "residual"):
            raise InvalidProblem(f'`form` must be "linear" or "residual", but is "{form}".')
        if form == "linear" and max(axes.stride) > 1:
            raise UnsupportedConvolution(
                f"The linear form with stride {axes.stride} would need one t for every pixel phase."
                " Pass `stride=1`: a stride only drops outputs, so that scaling is valid for it."
            )
        size = _grid(axes)
        half, multiplicity = _one_of_each_pair(tuple(n // s for n, s in zip(size, axes.stride, strict=True)))
        symbols = symbol_at(K, geometry, size, half)
        return cls(
            _blocks(symbols if form == "linear" else symbols.conj().swapaxes(-1, -2)), multiplicity, cost
        )

    def objective(self, t: Float[np.ndarray, " n"]) -> float:
        r"""$\sum_i c_i t_i$."""
        return float(self.cost @ t)

    def lower(self, dual: Complex[np.ndarray, "F n r"]) -> float:
        r"""Value of the dual at any factors $Y_\omega$, divided down first if they exceed the constraint."""
        used = dual.any((1, 2))  # few of a solver's
        value = self.multiplicity[used] @ (abs(self.symbols[used] @ dual[used]) ** 2).sum((-2, -1))
        return float(value) / excess(self.multiplicity @ (abs(dual) ** 2).sum(-1), self.cost)


def _grid(axes: Layout) -> tuple[int, ...]:
    """Size of the circular convolution that this one is, or is a submatrix of: outputs + reach."""
    if axes.image_size is None or axes.output_size is None:
        raise UnsupportedConvolution(
            "The optimum over frequencies needs `image_size`. For all sizes use sdplip.convolution.aol."
        )
    if axes.circular:
        return axes.image_size
    sizes = zip(axes.output_size, axes.reach, axes.stride, strict=True)
    return tuple((outputs + reach // stride) * stride for outputs, reach, stride in sizes)


def _blocks(symbols: Complex[np.ndarray, "f groups m n"]) -> Complex[np.ndarray, "f gm gn"]:
    """One block-diagonal matrix a frequency from the matrices of the channel groups."""
    f, groups, m, n = symbols.shape
    if groups == 1:
        return symbols[:, 0]
    blocks = np.zeros((f, groups, m, groups, n), dtype=symbols.dtype)
    for g in range(groups):
        blocks[:, g, :, g] = symbols[:, g]
    return blocks.reshape(f, groups * m, groups * n)


def _one_of_each_pair(grid: tuple[int, ...]) -> tuple[tuple[np.ndarray, ...], Float[np.ndarray, " F"]]:
    """Index of one frequency of each conjugate pair of the grid, and how many frequencies each stands for."""
    flat = np.arange(int(np.prod(grid)))
    index = np.unravel_index(flat, grid)
    mirror = np.ravel_multi_index(tuple(-i % n for i, n in zip(index, grid, strict=True)), grid)
    keep = flat <= mirror
    return tuple(i[keep] for i in index), 1.0 + (flat < mirror)[keep]
