r"""A recurrent layer whose last state is a 1-Lipschitz function of the whole sequence, however long."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidWeight
from sdplip.nn.activations import GroupSort
from sdplip.nn.given import number
from sdplip.nn.orthogonal import Method, orthogonal

# Note [recurrent]. h_t = s(M (x_t, r h_{t-1}) + b), 0 < r <= 1, with |M| <= c and s of the constant k, g = c k: |dh_t|^2 <= g^2 (|dx_t|^2 +
# r^2 |dh_{t-1}|^2), hence |dh_T|^2 <= g^2 sum_t (g r)^(2 (T - t)) |dx_t|^2: at most g^2 max(1, (g r)^(2 (T - 1))) |dx|^2, which is g^2 |dx|^2 for
# every T if g r <= 1. Of all states together sum_t |dh_t|^2 <= g^2 (1 + (g r)^2 + ... + (g r)^(2 (T - 1))) |dx|^2, at most T g^2 |dx|^2 if
# g r <= 1, and for every T at most g^2 / (1 - (g r)^2) |dx|^2 if g r < 1: a contracting cell.


class Recurrent(nn.Module):
    r"""$h_t = \sigma(M \binom{x_t}{\rho\, h_{t-1}} + b)$ with orthonormal rows in $M$, $h_0 = 0$, see Note [recurrent]: from sequences `(batch,
    time, features)` to the last state `(batch, hidden)`, 1-Lipschitz in the whole sequence, or to all states `(batch, time, hidden)`, with
    the constant $\sqrt{1 + \rho^2 + \dots + \rho^{2 (T - 1)}}$: $\sqrt T$ for $\rho = 1$, and $1 / \sqrt{1 - \rho^2}$ for every length if the
    cell contracts.

    The pair (input, state) is mapped by one matrix: two orthogonal matrices that are added would have the norm $\sqrt 2$, and $T$ steps
    $\sqrt 2^{\,T}$. A bound of the float32 matrix exceeds 1 by rounding, so `lipschitz` asks for the shape `(time, features)` there.

    Args:
        features, hidden: of the inputs and of the state.
        activation: any module with a constant; `GroupSort(2, -1)` if None, which needs an even `hidden`.
        all_states: return every state.
        method: of `orthogonal`.
        decay: $\rho$ in (0, 1], rounded to eight binary digits, so that every precision computes with the same number.

    Raises:
        InvalidWeight: no features, or a `decay` out of its range; in `forward`, something else than sequences.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        activation: nn.Module | None = None,
        *,
        all_states: bool = False,
        method: Method = "cholesky",
        decay: float = 1.0,
    ) -> None:
        super().__init__()
        decay = number("decay", decay, InvalidWeight)
        if not 2.0**-14 <= decay <= 1:
            raise InvalidWeight(f"`decay` must lie between 2^-14 and 1, but is {decay}.")
        self.decay = float(torch.tensor(decay, dtype=torch.bfloat16))
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
            state = state if self.decay == 1 else self.decay * state
            state = self.activation(self.cell(torch.cat([step, state], 1)))
            states.append(state)
        return torch.stack(states, 1) if self.all_states else state

    def extra_repr(self) -> str:
        return f"{self.features}, {self.hidden}, all_states={self.all_states}, decay={self.decay}"
