"""What `sdplip bound` asks of `sdplip.bounds`: one method, or all of them side by side."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sdplip.bounds.answer import NetworkBound, Tried
    from sdplip.kernel.proof import Norm
    from sdplip.kernel.regions import Region
    from sdplip.network import Network

    Watch = Callable[[int, float, float], None]

METHODS = (
    "auto",
    "product",
    "composite",
    "riccati",
    "riccati-greedy",
    "lipsdp-layer",
    "lipsdp-neuron",
    "pairs",
    "exact",
    "equilibrium",
    "reference",
    "reference-layer",
    "reference-pairs",
    "frequency",
    "banded",
)
"""As in `sdplip.bounds.methods`, so that help loads no solver; a test compares them."""
ALONE = ("auto", "exact", "reference", "reference-layer", "reference-pairs", "lipsdp-network")
"""What `--compare` leaves out, but for CVXPY's answer on small networks."""
NO_MORE = "product of the parts"
"""What methods give that take no part of a network."""
REFERENCE_ORDER = 60
"""Up to this order of the inequality, neurons and the fewer of them and inputs, `--compare` shows CVXPY's answer too: a few seconds."""


@dataclass(frozen=True)
class Exactly:
    """How the method "exact" is to search: see `sdplip.bounds.exact_bound`."""

    gap: float = 1e-6
    any_biases: bool = False
    state: "Path | None" = None


@dataclass(frozen=True, eq=False)
class Question:
    """What is to be bounded."""

    network: "Network"
    pair: tuple[int, int] | None
    norm: "Norm"
    region: "Region | None"
    watch: "Watch | None"
    pieces: int = 1
    device: str = "cpu"
    seconds: float = 60.0
    report: "Callable[[Tried], object] | None" = None
    stop: bool = False
    lower: float | None = None
    exact: "Exactly | None" = None

    def bound(self, method: str) -> "NetworkBound":
        if method == "exact":
            return self._exactly(self.exact or Exactly())
        if method not in ("product", "composite"):  # imports are no part of the time
            import torch  # noqa: F401
        if method.startswith("reference"):
            import cvxpy  # noqa: F401
        if self.pieces > 1:
            from sdplip.bounds.regional import split_bound

            assert self.region is not None
            return split_bound(
                self.network,
                self.region,
                self.pieces,
                method,
                output_pair=self.pair,
                output_norm=self.norm,
                progress=self.watch,
                seconds=self.seconds,
            )
        from sdplip.bounds.choose import bound

        return bound(
            self.network,
            method,
            output_pair=self.pair,
            output_norm=self.norm,
            region=self.region,
            progress=self.watch,
            report=self.report if self.norm == "l2" else None,  # each output by itself would be many lines
            device=self.device,
            seconds=self.seconds,
            stop=self.stop,
            lower=self.lower,
        )

    def _exactly(self, how: Exactly) -> "NetworkBound":
        from sdplip.bounds.exact import exact_bound

        return exact_bound(
            self.network,
            output_pair=self.pair,
            output_norm=self.norm,
            region=self.region,
            any_biases=how.any_biases,
            seconds=self.seconds,
            state=how.state,
            progress=self.watch,
            gap=how.gap,
        )


def compared(ask: Question) -> "list[NetworkBound]":
    """Every method that takes the network, once, each in the time of "auto" if it can stop; an interrupt from the keyboard leaves out the rest."""
    from sdplip.bounds.choose import lower_side
    from sdplip.bounds.methods import METHODS as KNOWN
    from sdplip.errors import InvalidProblem, NotProvable

    lower = lower_side(
        ask.network, output_pair=ask.pair, output_norm=ask.norm, region=ask.region, seconds=ask.seconds
    )
    ask = replace(ask, stop=True, lower=lower)
    first = ask.bound("product")
    results = [first]
    most = 10 * ask.seconds
    large = KNOWN["lipsdp-neuron"].work(ask.network) > most
    order = first.order + min(first.order, ask.network.inputs)
    small = order <= REFERENCE_ORDER and ask.region is None
    left_out = {"product", *ALONE} - ({"reference"} if small else set())
    for name, method in KNOWN.items():
        long = most < method.work(ask.network) < inf or (large and name.startswith("lipsdp"))
        if name in left_out or long:
            continue
        try:
            with suppress(NotProvable, InvalidProblem):
                found = ask.bound(name)
                results += [found] if found.method != NO_MORE else []
        except KeyboardInterrupt:
            return [
                replace(first, note=f"interrupted in {name}; it and what follows is left out"),
                *results[1:],
            ]
    return results
