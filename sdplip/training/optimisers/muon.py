r"""Muon: orthogonal weights that stay so, weights whose length a scaling divides out, every other parameter by Adam.

One step of a weight $W$ with gradient $g$: $m \leftarrow \mu m + g$, $U = \mathrm{NS}(g + \mu m)$, $W \leftarrow W - \eta U$, and
$W \leftarrow W (3 I - W^\top W) / 2$. No parametrisation stands in the graph, nothing is inverted. `project()` makes the weights
exactly orthogonal, in double precision: call it once an epoch and at the end.

The raw weight of a residual or rescaled layer (SLL, CPL, AOL, ...) may have any length. With $\ell = \lVert W \rVert_F$ and $n$ the smaller side
its step is $V = W - \eta\, \ell / \sqrt n\, U$, $W \leftarrow V \ell / \lVert V \rVert_F$.

`torch.optim.Muon` has the same direction (in bfloat16, of matrices alone), but no way back to the manifold.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from sdplip.errors import InvalidConfig, InvalidWeight
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.manifold import as_matrices, deviation, manifold_weights, newton_schulz, polar, retracted
from sdplip.nn.scaled import scaled_weights, turned
from sdplip.training.tables import LARGEST_TURN

TOLERANCE = 0.3
r"""$\lVert I - W^\top W \rVert_F / \sqrt n$ up to which a weight may be handed over: within training steps of 0.6 leave it below."""

Group = dict[str, Any]


def muon_groups(module: nn.Module, *, lr_rest: float = 0.01, weight_decay: float = 0.0) -> list[Group]:
    """Parameter groups for `Muon`: weights of `orthogonal(layer, "manifold")`, those of residual and rescaled layers, and the rest by Adam.

    Args:
        lr_rest: learning rate of the rest.
        weight_decay: of the rest, where a parameter has two axes or more.
    """
    kept, scaled = manifold_weights(module), scaled_weights(module)
    rest = [p for p in module.parameters() if p.requires_grad and p not in kept and p not in scaled]
    groups: list[Group] = [
        {
            "params": [w for w, n in members.items() if n == blocks and w.requires_grad],
            "manifold": members is kept,
            "scaled": members is scaled,
            "blocks": blocks,
        }
        for members in (kept, scaled)
        for blocks in sorted(set(members.values()))
    ]
    for decay, wide in ((weight_decay, True), (0.0, False)):
        members = [p for p in rest if (p.ndim > 1) == wide]
        groups.append({"params": members, "manifold": False, "lr": lr_rest, "weight_decay": decay})
    return [group for group in groups if group["params"]]


def evaluated(closure: Callable[[], Any] | None) -> Any:
    """The loss that a closure of an optimiser computes, with gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class Muon(torch.optim.Optimizer):
    """Orthogonal weights by Newton-Schulz directions and a retraction, scaled ones by the same directions at their length, others by Adam.

        model = nn.Sequential(orthogonal(nn.Linear(784, 512), "manifold"), MaxMin(), LastLayerNormalised(512, 10))
        optimiser = Muon(muon_groups(model))
        ...                       # zero_grad, backward, step, as ever
        optimiser.project()       # once an epoch, and in the end

    Bare parameters count as orthogonal weights. A group with `manifold` = False is Adam's, with `scaled` = True one of weights that keep their
    length. `blocks` is the number of groups of a convolution. The rest is as in any optimiser of torch.

    Args:
        params: parameters or groups, `muon_groups(model)` for example.
        lr: of orthogonal and scaled weights; what a step turns them by at most.
        momentum: $\\mu$.
        steps: of Newton-Schulz.
        half: run these in bfloat16, several times faster where processor or GPU have units for it; weights keep their type.
        betas, eps, weight_decay: Adam's.

    Raises:
        InvalidConfig: a learning rate, momentum or number of steps outside its range.
        InvalidWeight: a weight that is no matrix, or not orthogonal.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 0.4,
        *,
        momentum: float = 0.9,
        steps: int = 3,
        half: bool = False,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "steps": steps, "half": half, "betas": betas, "eps": eps}
        kind = {"manifold": True, "scaled": False, "blocks": 1}
        super().__init__(params, {**options, "weight_decay": weight_decay, **kind})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # of a checkpoint of 0.2
            group.setdefault("scaled", False)

    def add_param_group(self, param_group: Group) -> None:
        """One more group; see `torch.optim.Optimizer.add_param_group`."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        _in_range(group)
        if group["manifold"]:
            for weight in group["params"]:
                _orthogonal(weight, group["blocks"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; `closure` computes the loss anew, which is returned."""
        loss = evaluated(closure)
        for group in self.param_groups:
            _in_range(group)
            (self._turn if group["manifold"] or group["scaled"] else self._adam)(group)
        return loss

    @torch.no_grad()
    def project(self) -> None:
        """Every orthogonal weight becomes its polar factor, computed in double precision."""
        for group in self.param_groups:
            for weight in group["params"] if group["manifold"] else ():
                weight.copy_(polar(as_matrices(weight, group["blocks"])).reshape(weight.shape))

    def _turn(self, group: Group) -> None:
        """The step of orthogonal or scaled weights; those of one shape together, so that depth costs no launches."""
        alike: dict[tuple, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is None:
                continue
            _dense(weight)
            state = self.state[weight]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
            m = state["momentum_buffer"]
            m.mul_(group["momentum"]).add_(weight.grad)
            ahead = weight.grad.add(m, alpha=group["momentum"])
            alike[(tuple(weight.shape), weight.dtype, weight.device)].append((weight, ahead))
        for pairs in alike.values():
            W, G = (
                torch.cat([as_matrices(pair[k], group["blocks"]) for pair in pairs]).to(
                    precision(pairs[0][0])
                )
                for k in (0, 1)
            )
            U = group["lr"] * newton_schulz(G, group["steps"], half=group["half"])
            moved = retracted(W - U) if group["manifold"] else turned(W, U)
            for (weight, _), new in zip(pairs, moved.split(group["blocks"]), strict=True):
                weight.copy_(new.reshape(weight.shape))

    def _adam(self, group: Group) -> None:
        """torch's own step of Adam."""
        params = [p for p in group["params"] if p.grad is not None]
        for p in params:
            _dense(p)
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.tensor(0.0),
                    "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
                }
        states = [self.state[p] for p in params]
        if params:
            adam(
                params,
                [p.grad for p in params if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )


def _in_range(group: Group) -> None:
    lr, most = float(group["lr"]), LARGEST_TURN if group["manifold"] else float("inf")
    if not 0 <= lr <= most:
        raise InvalidConfig(
            f"`lr` of {'orthogonal weights' if group['manifold'] else 'Adam'} must lie between 0 and {most:g}, but is {lr:g}."
            + (" Larger steps have no way back to the manifold." if group["manifold"] else "")
        )
    if not (
        0 <= group["momentum"] < 1 and group["steps"] >= 1 and all(0 <= beta < 1 for beta in group["betas"])
    ):
        raise InvalidConfig(
            f"`momentum` and `betas` must lie in [0, 1) and `steps` be at least 1, but they are {group['momentum']}, {group['betas']}"
            f" and {group['steps']}."
        )


def _orthogonal(weight: Tensor, blocks: int) -> None:
    """Refuse a weight that does not lie on the manifold."""
    if weight.ndim < 2 or not weight.is_floating_point() or weight.shape[0] % blocks:
        raise InvalidWeight(
            f"An orthogonal weight is a real matrix or kernel, in {blocks} block(s) here, but one is {weight.dtype} of shape"
            f" {tuple(weight.shape)}. Put others into a group with `manifold` = False, as `muon_groups(model)` does."
        )
    W = as_matrices(weight.detach(), blocks).to(precision(weight))
    far = float(deviation(W).max()) / min(W.shape[-2:]) ** 0.5
    if not far <= TOLERANCE:
        raise InvalidWeight(
            f"A weight of shape {tuple(weight.shape)} is not orthogonal: I - W^T W has the mean length {far:.3g}. Make its layer with"
            ' `orthogonal(layer, "manifold")`, or put it into a group with `manifold` = False.'
        )


def _dense(p: Tensor) -> None:
    if p.grad is not None and p.grad.layout is not torch.strided:
        raise InvalidWeight(
            "`Muon` takes dense gradients, but one is sparse. Use `sparse=False` in its layer."
        )
