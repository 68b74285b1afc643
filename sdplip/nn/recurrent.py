r"""A recurrent layer whose last state is a 1-Lipschitz function of the whole sequence, however long."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidWeight
from sdplip.nn.activations import GroupSort
from sdplip.nn.orthogonal import Method, orthogonal

# Note [recurrent]. h_t = s(M (x_t, h_{t-1}) + b) with |M| <= c and s of the constant k, g = c k: |dh_t|^2 <= g^2 (|dx_t|^2 + |dh_{t-1}|^2),
# hence |dh_T|^2 <= sum_t g^(2 (T - t + 1)) |dx_t|^2 <= max(g, g^T)^2 |dx|^2: at most g, for every T, if g <= 1. Of all states together
# sum_t |dh_t|^2 <= T max(g, g^T)^2 |dx|^2.


class Recurrent(nn.Module):
    r"""$h_t = \sigma(M \binom{x_t}{h_{t-1}} + b)$ with orthonormal rows in $M$, $h_0 = 0$, see Note [recurrent]: from sequences `(batch, time,
    features)` to the last state `(batch, hidden)`, 1-Lipschitz in the whole sequence, or to all states `(batch, time, hidden)`, with the
    constant $\sqrt T$.

    The pair (input, state) is mapped by one matrix: two orthogonal matrices that are added would have the norm $\sqrt 2$, and $T$ steps
    $\sqrt 2^{\,T}$. A bound of the float32 matrix exceeds 1 by rounding, so `lipschitz` asks for the shape `(time, features)` there.

    Args:
        features, hidden: of the inputs and of the state.
        activation: any module with a constant; `GroupSort(2, -1)` if None, which needs an even `hidden`.
        all_states: return every state.
        method: of `orthogonal`.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        activation: nn.Module | None = None,
        *,
        all_states: bool = False,
        method: Method = "cholesky",
    ) -> None:
        super().__init__()
        if min(features, hidden) < 1:
            raise InvalidWeight(f"A recurrent layer from {features} to {hidden} features has no weight.")
        self.features, self.hidden, self.all_states = features, hidden, all_states
        self.cell = orthogonal(nn.Linear(features + hidden, hidden), method)
        self.activation = GroupSort(2, -1) if activation is None else activation

    def forward(self, x: Float[Tensor, "batch time features"]) -> Tensor:
        if x.ndim != 3 or x.shape[2] != self.features or not x.shape[1]:
            raise InvalidWeight(
                f"`Recurrent` takes sequences (batch, time, {self.features}), but got the shape {tuple(x.shape)}."
            )
        state, states = torch.zeros_like(x[:, 0, :1]).expand(-1, self.hidden), []
        for step in x.unbind(1):
            state = self.activation(self.cell(torch.cat([step, state], 1)))
            states.append(state)
        return torch.stack(states, 1) if self.all_states else state

    def extra_repr(self) -> str:
        return f"{self.features}, {self.hidden}, all_states={self.all_states}"
