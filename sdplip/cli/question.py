"""What `sdplip bound` asks of `sdplip.bounds`: one method, all of them side by side, or the best that has a certificate file."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from sdplip.cli.proofs import has_proof

if TYPE_CHECKING:
    from sdplip.bounds import Method, NetworkBound
    from sdplip.bounds.samples import OutputNorm
    from sdplip.certificates.region import Region
    from sdplip.networks import Network

    Watch = Callable[[int, float, float], None]

METHODS: "tuple[Method, ...]" = (
    "auto",
    "product",
    "composite",
    "riccati",
    "riccati-greedy",
    "lipsdp-layer",
    "lipsdp-neuron",
    "reference",
    "reference-layer",
    "frequency",
    "state-space",
    "banded",
)
COMPARED = METHODS[METHODS.index("product") : METHODS.index("lipsdp-neuron") + 1]
ON_IMAGES: "tuple[Method, ...]" = ("frequency", "banded")
REFERENCE_ORDER = 60
"""Up to this order of the LMI `--compare` shows CVXPY's answer too: a few seconds."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is to be bounded; `as_system` by the kernel's general form, whose certificate files know pairs and single outputs."""

    network: "Network"
    pair: tuple[int, int] | None
    norm: "OutputNorm"
    region: "Region | None"
    watch: "Watch | None"
    as_system: bool = False
    pieces: int = 1
    device: str = "cpu"

    def bound(self, method: "Method") -> "NetworkBound":
        from sdplip import bounds

        if method not in ("product", "composite"):  # imports are no part of the time
            assert bounds.LipSDP
            from sdplip.solvers import MinTrace, solve  # noqa: F401
        if method.startswith("reference"):
            import cvxpy  # noqa: F401
        if self.pieces > 1:
            from sdplip.bounds.split import split_bound

            assert self.region is not None
            return split_bound(
                self.network, self.region, self.pieces, method, output_pair=self.pair, output_norm=self.norm
            )
        if self.norm == "linf":
            from sdplip.bounds.rows import rows_bound

            return rows_bound(
                self.network, method, region=self.region, proofs=self.as_system, progress=self.watch
            )
        ask = bounds.system_bound if self.as_system else bounds.bound
        device = self.device if method == "auto" or method.startswith("lipsdp") else "cpu"
        return ask(
            self.network,
            method,
            output_pair=self.pair,
            region=self.region,
            progress=self.watch,
            device=device,
        )

    @property
    def is_system(self) -> bool:
        from sdplip.networks import is_chain

        return self.as_system or self.region is not None or not is_chain(self.network)

    def silent(self) -> "Question":
        """The same without a lower estimate, where the bound does not need to know the functions."""
        from sdplip.networks import Activation, Network

        if self.is_system:
            return self
        layers = self.network.layers
        plain = Network(tuple(replace(p, kind="") if isinstance(p, Activation) else p for p in layers))
        return replace(self, network=plain)


def compared(ask: Question) -> "list[NetworkBound]":
    """Every method once, timed without the lower estimate where possible, which is made once for all of them."""
    from sdplip.bounds.auto import AUTO_ORDER
    from sdplip.bounds.systems import METHODS as SYSTEM_METHODS
    from sdplip.errors import InvalidProblem, NotProvable
    from sdplip.networks import Convolution

    first = ask.bound("product")
    order = first.order + min(first.chain.weights[0].shape)
    images = any(isinstance(layer, Convolution) for layer in ask.network.layers)
    methods: list[Method] = [m for m in COMPARED if order <= AUTO_ORDER or not m.startswith("lipsdp")]
    if ask.is_system:
        methods = [m for m in methods if m in SYSTEM_METHODS]
    elif images:
        methods += ON_IMAGES
    elif order <= REFERENCE_ORDER:
        methods.append("reference")
    results, plain = list["NetworkBound"](), ask.silent()
    for method in methods:
        with suppress(NotProvable, *([InvalidProblem] if ask.is_system or images else [])):
            result = plain.bound(method)
            results.append(replace(result, lower=min(first.lower, result.value)))
    return results


def best_with_proof(ask: Question, results: "list[NetworkBound]") -> "NetworkBound":
    """The best result that has a certificate; where none has, the best of the methods that make one."""
    proven = [result for result in results if has_proof(result)]
    if not proven:
        tried = {name for result in results for name in result.others}
        again: list[Method] = ["riccati", *(["lipsdp-neuron"] if "lipsdp-neuron" in tried else [])]
        proven = [result for result in map(ask.bound, again) if has_proof(result)]
    if not proven:
        raise click.UsageError(
            "--certificate: no method that has a certificate file bounds this network. Drop it."
        )
    return min(proven, key=lambda result: result.value)
