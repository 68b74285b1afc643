"""A scaling that a checkpoint brings along."""

from jaxtyping import Float
from torch import Tensor

from sdplip.geometry import Geometry
from sdplip.nn.abstract_scaling import AbstractScaling


class Fixed(AbstractScaling):
    r"""The numbers `t` that a layer of another library divides by, whatever its weight is.

    Nothing says that $W^\top W \preceq T$: `lipschitz` proves what these numbers and the weight give.
    """

    t: Tensor

    def __init__(self, t: Float[Tensor, " n"]) -> None:
        super().__init__()
        self.register_buffer("t", t)

    def dense(self, W: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:  # noqa: ARG002
        return self.t

    def convolution(
        self,
        K: Float[Tensor, "out channels *taps"],  # noqa: ARG002
        geometry: Geometry,  # noqa: ARG002
    ) -> Float[Tensor, " channels"]:
        return self.t

    def compute(self, weight: Float[Tensor, "..."]) -> Float[Tensor, " n"]:  # noqa: ARG002
        return self.t
