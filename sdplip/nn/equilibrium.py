r"""Equilibrium layer: the outputs of a fixed point, $L$-Lipschitz by construction (LBEN), every output within a tolerance of the exact one."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidScaling, InvalidWeight, NoEquilibrium
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.fixed_points import Solution, solved
from sdplip.nn.given import count, number
from sdplip.nn.memo import Memo
from sdplip.nn.slopes import UnsupportedActivation

# Note [equilibrium]. z = s(W z + U x + b), f(x) = G z + d, slopes of s in [0, 1]. With Lam > 0 diagonal, let M = 2 Lam - Lam W - W' Lam. If M > 0
# there is exactly one z for every x. If M >= (G'G + Lam U U' Lam) / L, f is L-Lipschitz: the increments have
#     z' M z <= 2 z' Lam U x <= |U' Lam z|^2 / L + L |x|^2    (Revay, Wang, Manchester 2020; `kernel.rules.equilibrium`).
# For any V, S, U, G, Lam and e > 0, W = I - Lam^-1 ((G'G + Lam U U' Lam) / (2 L) + V'V + e I + (S - S') / 2) has M = (..) / L + 2 V'V + 2 e I.
# (Code of Havens et al. 2023 has V V in place of V'V in its dense class, which is no square once V is not symmetric.)
#
# Note [residual]. With Q(d) = L d' M d >= |G d|^2, and Q(d) >= m |d|^2, m = 2 L e: let z be anything, w = s(W z + U x + b) in exact arithmetic,
# r = z - w. Then w is the equilibrium for the bias b + W r, so d = w - z* has Q(d) <= |d| |2 L Lam W r|, hence |G d| <= |2 L Lam W r| / sqrt(m). What is
# stored in place of w is off by e: r becomes r + e, and |G| e is added. All of it is computed, with roundings, at every input.

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid)
"""Slopes in [0, 1], and names in `sdplip.arithmetic.functions`."""


class EquilibriumLinear(nn.Module):
    r"""$x \mapsto G z + d$ with the one solution of $z = \sigma(W z + U x + b)$: $L$-Lipschitz, see Note [equilibrium].

    Eval mode computes in double precision and *guarantees*: every output is within `tolerance` of that of the exact solution, or
    `forward` raises (it abstains). So `tolerance` is what certified radii lose by the solver, and they lose it at the attacked input
    too. The guarantee is for ReLU and LeakyReLU; other functions are computed by the library, whose error nobody states. In training
    the solver does what it can in single precision at least. `torch.compile` leaves the layer as it is, between the compiled parts of a
    network; it cannot be in one graph (`fullgraph=True`).

    Attributes:
        V, S, U, G, log_lambda: free; any values give a layer.
        bias, shift: of hidden units, and of outputs.
        tolerance: of outputs, in Euclidean norm, before they are rounded to the precision of the parameters.
        room: the $\epsilon$ of the note; the larger, the quicker the solver and the smaller the family.

    Raises:
        InvalidWeight: widths that are not whole and positive; in `forward`, another number of features.
        InvalidScaling: `L`, `room` or `tolerance` not positive and finite.
        UnsupportedActivation: not one of ReLU, LeakyReLU, Tanh, Sigmoid with slopes in [0, 1].
        NoEquilibrium: in `forward`, an output that is not within `tolerance`.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        out: int,
        activation: nn.Module | None = None,
        *,
        L: float = 1.0,
        tolerance: float = 1e-6,
        room: float = 0.01,
    ) -> None:
        super().__init__()
        self.features, self.hidden, self.out = (
            count(name, n, 1, InvalidWeight)
            for name, n in (("features", features), ("hidden", hidden), ("out", out))
        )
        self.activation = nn.ReLU() if activation is None else activation
        steep = type(self.activation) is nn.LeakyReLU and not 0 <= self.activation.negative_slope <= 1
        if type(self.activation) not in ACTIVATIONS or steep:
            raise UnsupportedActivation(
                f"`{self.activation}` is not an activation with slopes in [0, 1] that an equilibrium can have here. Use nn.ReLU(),"
                " nn.LeakyReLU(), nn.Tanh() or nn.Sigmoid()."
            )
        given = {"L": L, "room": room, "tolerance": tolerance}
        for name, value in given.items():
            given[name] = float(number(name, value, InvalidScaling))
            if not 0 < given[name] < math.inf:
                raise InvalidScaling(
                    f"`{name}` of an equilibrium layer must be positive and finite, but is {value!r}."
                )
        self.L, self.room, self.tolerance = given["L"], given["room"], given["tolerance"]
        n = self.hidden
        self.V, self.S = (nn.Parameter(torch.empty(n, n)) for _ in range(2))
        self.U, self.G = nn.Parameter(torch.empty(n, self.features)), nn.Parameter(torch.empty(self.out, n))
        self.log_lambda = nn.Parameter(torch.zeros(n))
        self.bias, self.shift = nn.Parameter(torch.empty(n)), nn.Parameter(torch.zeros(self.out))
        self._memo = Memo()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Orthogonal U and G, and V such that W is about 0: the layer begins as one hidden layer."""
        for weight in (self.U, self.G):
            nn.init.orthogonal_(weight, math.sqrt(self.L))
        nn.init.orthogonal_(self.V, math.sqrt(0.5))
        nn.init.normal_(self.S, std=0.1 / math.sqrt(self.hidden))
        nn.init.uniform_(self.bias, -1 / math.sqrt(self.features), 1 / math.sqrt(self.features))

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """W, U, G as forward multiplies with them: in double precision in eval mode, computed once."""
        free = (self.V, self.S, self.U, self.G, self.log_lambda)
        if self.training:
            dtype = precision(self.V)
            W, U, G = self.now(*free), self.U, self.G
            return W.to(dtype), U.to(dtype), G.to(dtype)
        return self._memo(self.now, *free), self.U.double(), self.G.double()

    def multipliers(self) -> Float[Tensor, " hidden"]:
        r"""$2 L \Lambda$, with which the inequality holds."""
        return 2 * self.L * self.log_lambda.double().exp()

    @torch.no_grad()
    def assign(
        self,
        W: Float[Tensor, "hidden hidden"],
        U: Float[Tensor, "hidden features"],
        G: Float[Tensor, "out hidden"],
        multipliers: Float[Tensor, " hidden"],
    ) -> None:
        r"""Makes these the weights of the layer, W less $\epsilon \Lambda^{-1}$; biases stay.

        Args:
            multipliers: $\Lambda$, positive, with which $2 \Lambda - \Lambda W - W^\top \Lambda \succeq (G^\top G + \Lambda U U^\top \Lambda) / L$.

        Raises:
            InvalidScaling: they do not satisfy it, up to rounding.
        """
        W, U, G, lam = (A.detach().double() for A in (W, U, G, multipliers))
        shapes = [tuple(A.shape) for A in (W, U, G, lam)]
        n = self.hidden
        if shapes != [(n, n), (n, self.features), (self.out, n), (n,)]:
            raise InvalidWeight(f"This layer has W, U, G, multipliers of other shapes than {shapes}.")
        R, inner = lam[:, None] * U, lam[:, None] * (torch.eye(n, dtype=lam.dtype, device=lam.device) - W)
        half = (inner + inner.mT) / 2 - (G.mT @ G + R @ R.mT) / (2 * self.L)
        values, vectors = torch.linalg.eigh(half)
        if not bool((lam > 0).all()) or not float(values[0]) >= -1e-6 * float(inner.abs().max()):
            raise InvalidScaling(
                f"These multipliers do not prove the constant {self.L:g} of these weights: the least eigenvalue of the slack is"
                f" {float(values[0]):.3g}. Use those of a proof, or a larger `L`."
            )
        free = {"V": (vectors * values.clamp(min=0).sqrt()) @ vectors.mT, "S": (inner - inner.mT) / 2}
        for name, value in {**free, "U": U, "G": G, "log_lambda": lam.log()}.items():
            self.get_parameter(name).copy_(value)
        self._memo.drop()

    @torch.compiler.disable  # how long the solver goes on, and whether forward raises, numbers decide
    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch out"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not x.ndim or x.shape[-1] != self.features:
            raise InvalidWeight(
                f"This layer takes (..., {self.features}), but got {tuple(x.shape)}: another number of features."
            )
        with torch.autocast(x.device.type, enabled=False):
            W, U, G = self.weights()
            flat = x.reshape(-1, self.features).to(W.dtype)
            c = flat @ U.mT + self.bias.to(W.dtype)
            check = None if self.training else self._check
            z: Tensor = Solution.apply(W, c, flat, self.activation, check)  # type: ignore[assignment]
            w = self.activation(z @ W.mT + c) if not self.training else z
            y = w @ G.mT + self.shift.to(W.dtype)
        return y.reshape(*x.shape[:-1], self.out).to(x.dtype)

    @torch.no_grad()
    def residual(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
        """How far outputs in eval mode may be from the exact ones, roundings in double precision included (Note [residual])."""
        W, U, G = (A.detach().double() for A in self.eval_weights())
        flat = x.detach().double()
        c = flat @ U.mT + self.bias.detach().double()
        return self._error(W, U, G, flat, c, solved(W, c, self.activation))

    def eval_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """W, U, G of eval mode."""
        W = self.now(self.V, self.S, self.U, self.G, self.log_lambda)
        return W, self.U.double(), self.G.double()

    @torch.no_grad()
    def _check(self, W: Tensor, x: Tensor, c: Tensor, z: Tensor) -> None:
        error = self._error(W, self.U.double(), self.G.double(), x, c, z)
        if not bool((error <= self.tolerance).all()):
            worst = float(error.nan_to_num(math.inf).max()) if len(error) else 0.0
            raise NoEquilibrium(
                f"The equilibrium was reached up to an error of {worst:.3g} of the output, not {self.tolerance:.3g}. Raise `tolerance` or"
                " `room`, or keep inputs and weights smaller."
            )

    def _error(self, W: Tensor, U: Tensor, G: Tensor, x: Tensor, c: Tensor, z: Tensor) -> Tensor:
        """Note [residual], in double precision; each sum is enlarged by what it rounds."""
        rounding, tiny = (self.hidden + self.features + 12) * 2.0**-52, 1e-290  # twice gamma
        size = z.abs() @ W.abs().mT + x.abs() @ U.abs().mT + self.bias.to(W.dtype).abs()
        w = self.activation(z @ W.mT + c)
        stored = rounding * (size + w.abs()) + tiny  # w is off by so much
        apart = (z - w).abs() * (1 + rounding) + stored
        products = apart @ W.abs().mT * self.multipliers()
        solver = products.norm(dim=-1) / math.sqrt(2 * self.L * self.room * (1 - 2.0**-20))
        last = (stored + rounding * w.abs()) @ G.abs().mT + rounding * self.shift.to(W.dtype).abs() + tiny
        return (solver + last.norm(dim=-1)) * (1 + rounding)

    def now(self, *parameters: Tensor) -> Float[Tensor, "hidden hidden"]:
        """W in double precision, from the parameters as they stand."""
        with torch.autocast(parameters[0].device.type, enabled=False):
            V, S, U, G, log = (p.double() for p in parameters)
            lam = log.exp()
            R = lam[:, None] * U
            inner = (G.mT @ G + R @ R.mT) / (2 * self.L) + V.mT @ V + (S - S.mT) / 2
            inner = inner + self.room * torch.eye(len(lam), dtype=lam.dtype, device=lam.device)
            return torch.eye(len(lam), dtype=lam.dtype, device=lam.device) - inner / lam[:, None]

    def train(self, mode: bool = True) -> "EquilibriumLinear":
        self._memo.drop()
        return super().train(mode)

    def extra_repr(self) -> str:
        return f"{self.features}, {self.hidden}, {self.out}, L={self.L}, tolerance={self.tolerance}"


def function(activation: nn.Module) -> tuple[str, dict[str, float]]:
    """One of `ACTIVATIONS` by its name and parameters in `sdplip.arithmetic.functions`."""
    if isinstance(activation, nn.LeakyReLU):
        return "leaky_relu", {"negative_slope": float(activation.negative_slope)}
    return {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}[type(activation)], {}  # type: ignore[index]
