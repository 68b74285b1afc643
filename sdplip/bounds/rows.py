r"""From Euclidean lengths to the largest output: $\lVert f(x) - f(y) \rVert_\infty \le L \lVert x - y \rVert_2$.

$L$ is the largest constant of one output, since $\lVert J \rVert_{2 \to \infty}$ is the longest row of $J$. Outputs are bounded
one after the other, that of the largest product bound first. One that is proven to be no larger than the largest so far is done:
by its product bound, or with the multipliers of that largest one, which cost a factorization instead of a solve.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from jaxtyping import Float

from sdplip.bounds.auto import Method, _before_last, bound
from sdplip.bounds.images import outward
from sdplip.bounds.lower import estimate_lower
from sdplip.bounds.result import NetworkBound
from sdplip.bounds.samples import largest_jacobian
from sdplip.bounds.shared import SharedMultipliers
from sdplip.bounds.system import compressed
from sdplip.bounds.systems import bound_claim, claim_about
from sdplip.certificates.network import certify_network
from sdplip.certificates.region import Region
from sdplip.certificates.rounding import gamma
from sdplip.certificates.system import System
from sdplip.certificates.system_file import Claim
from sdplip.certificates.system_proof import SystemCertificate, certify_rows, system_holds
from sdplip.errors import InvalidScaling, NotProvable
from sdplip.networks import Activation, Affine, Network, chain_of, is_chain

Vector = Float[np.ndarray, " n"]
Watch = Callable[[int, float, float], None] | None


def rows_bound(
    network: Network,
    method: Method = "auto",
    *,
    region: Region | None = None,
    proofs: bool = False,
    progress: Watch = None,
) -> NetworkBound:
    """The largest bound of one output; `row` says of which.

    Args:
        network, method, region, progress: as for `bound`.
        proofs: keep a proof of every output in `row_proofs`, for a certificate file; each is one dense inequality. "product"
            has none.

    Raises:
        InvalidProblem, NotProvable: as for `bound`.
    """
    begin = time.perf_counter()
    if region is None and is_chain(network) and not proofs:
        outputs = _Chains(_with_affine_end(network), method, progress)
        lower, claim = estimate_lower(network, norm="linf"), None
    else:
        claim = claim_about(network, region)
        outputs = _Systems(claim, method, progress, proofs and method != "product")
        lower = largest_jacobian(claim.layers, claim.inputs, region, norm="linf")
    at, best, found = _largest(outputs)
    return replace(
        best,
        lower=min(lower, best.value),
        certificate=None,
        claim=claim,
        system_certificate=None,
        seconds=time.perf_counter() - begin,
        iterations=sum(result.iterations for result in found.values()),
        row=at,
        row_proofs=tuple(outputs.proofs(found, best.value)) if proofs and method != "product" else (),
    )


class _Outputs(Protocol):
    """A network whose outputs are bounded one by one.

    `caps` are proven bounds that cost little, `ask(i)` the bound by the method, and `no_larger(i, other)` says whether the
    multipliers of the result `other` prove that output i does not exceed it.
    """

    caps: Vector

    def ask(self, i: int) -> NetworkBound: ...

    def no_larger(self, i: int, other: NetworkBound) -> bool: ...

    def proofs(self, found: dict[int, NetworkBound], most: float) -> Iterable[SystemCertificate | None]: ...


def _largest(outputs: _Outputs) -> tuple[int, NetworkBound, dict[int, NetworkBound]]:
    """Which output has the largest bound, its result, and all that were asked for; no other one exceeds it."""
    order = [int(i) for i in np.argsort(-outputs.caps, kind="stable")]
    at = order[0]
    found = {at: outputs.ask(at)}
    for i in order[1:]:
        if outputs.caps[i] <= found[at].value or outputs.no_larger(i, found[at]):
            continue
        found[i] = outputs.ask(i)
        if found[i].value > found[at].value:
            at = i
    return at, found[at], found


@dataclass(eq=False)
class _Chains:
    """Outputs of a chain that ends in a matrix, each as a chain of its own."""

    network: Network
    method: Method
    progress: Watch
    caps: Vector = field(init=False)

    def __post_init__(self) -> None:
        W = _last(self.network).W
        lengths = np.sqrt((np.asarray(W, np.float64) ** 2).sum(1)) * (1 + gamma(W.shape[1] + 6)) + 2.0**-500
        self.caps = np.nextafter(_before_last(self.network) * lengths, np.inf)

    def ask(self, i: int) -> NetworkBound:
        return bound(self._row(i), self.method, progress=self.progress)

    def no_larger(self, i: int, other: NetworkBound) -> bool:
        proof = other.certificate
        if proof is None:
            return False
        chain = chain_of(self._row(i))
        with suppress(NotProvable, InvalidScaling):
            return (
                outward(chain, certify_network(chain.weights, proof.multipliers, proof.slopes).bound)
                <= other.value
            )
        return False

    def proofs(self, found: dict[int, NetworkBound], most: float) -> Iterable[SystemCertificate | None]:  # noqa: ARG002
        return ()

    def _row(self, i: int) -> Network:
        """Output i alone, of functions of which only the slopes are known: nobody looks for Jacobians then."""
        *front, last = self.network.layers
        assert isinstance(last, Affine)
        plain = [replace(part, kind="") if isinstance(part, Activation) else part for part in front]
        return Network((*plain, Affine(last.W[i : i + 1], None if last.b is None else last.b[i : i + 1])))


@dataclass(eq=False)
class _Systems:
    """Outputs of a claim, each as one inequality; `shown` keeps those that multipliers of another output proved."""

    claim: Claim
    method: Method
    progress: Watch
    kept: bool
    caps: Vector = field(init=False)
    shown: dict[int, SystemCertificate] = field(default_factory=dict)
    _small: System | None = None
    _common: tuple[NetworkBound, SharedMultipliers] | None = None

    def __post_init__(self) -> None:
        self.caps = certify_rows(self.claim.on_region())

    def ask(self, i: int) -> NetworkBound:
        claim = replace(self.claim, row=i)
        found = bound_claim(claim, self.method, self.progress)
        if self.kept and found.system_certificate is None:  # the product has no margin for another machine
            found = min(
                (bound_claim(claim, name, self.progress) for name in ("riccati", "lipsdp-neuron")),
                key=lambda result: result.value,
            )
        return found

    def no_larger(self, i: int, other: NetworkBound) -> bool:
        if other.system_certificate is None or other.value <= 0:
            return False
        try:
            common = self._shared(other)
        except np.linalg.LinAlgError:
            return False
        kappa, theta = common.best_of(common.system.out[i])
        if not kappa < other.value**2 * (1 - 1e-8):
            return False
        multipliers = theta * other.system_certificate.multipliers
        if not system_holds(replace(self.claim, row=i).system(), multipliers, other.value):
            return False
        self.shown[i] = SystemCertificate(other.value, multipliers, "multipliers of another output")
        return True

    def proofs(self, found: dict[int, NetworkBound], most: float) -> Iterable[SystemCertificate | None]:
        for i, cap in enumerate(self.caps):
            proof = found[i].system_certificate if i in found else self.shown.get(i)
            assert proof is not None or cap <= most
            yield proof

    def _shared(self, other: NetworkBound) -> SharedMultipliers:
        if self._small is None:
            self._small = compressed(self.claim.system())
        if self._common is None or self._common[0] is not other:
            assert other.system_certificate is not None
            self._common = (
                other,
                SharedMultipliers.of(self._small, other.system_certificate.multipliers),
            )
        return self._common[1]


def _with_affine_end(network: Network) -> Network:
    """The network with a matrix behind it: the identity where there was none."""
    if isinstance(network.layers[-1], Affine):
        return network
    return Network((*network.layers, Affine(np.eye(network.outputs))))


def _last(network: Network) -> Affine:
    last = network.layers[-1]
    assert isinstance(last, Affine)
    return last
