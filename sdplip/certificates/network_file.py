"""Network certificates as JSON files, and the check that proves a file's bound again from the weights alone."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdplip.certificates import document
from sdplip.certificates.file import Verification, weight_digest
from sdplip.certificates.network import NetworkCertificate, network_holds
from sdplip.certificates.rounding import up
from sdplip.errors import SdplipError

SCHEMA = "sdplip-network-certificate/1"


@dataclass(frozen=True, eq=False)
class NetworkRecord:
    """A network certificate and the SHA-256 digests of the weights that it speaks of, first layer first.

    Attributes:
        name: of the file.
        digests: of the matrices of the chain; a convolution counts as its dense matrix.
        certificate: the proof for these matrices.
        remainder: what merging layers into these matrices rounded off, to be added to the bound.
        reading: how the file is read as a network (image size, stride, ...), as options of `sdplip bound`; empty for matrices.
    """

    name: str
    digests: tuple[str, ...]
    certificate: NetworkCertificate
    remainder: float = 0.0
    reading: dict[str, Any] = field(default_factory=dict)

    @property
    def bound(self) -> float:
        """What the file claims."""
        return up(self.certificate.bound + self.remainder) if self.remainder else self.certificate.bound


def network_record(
    name: str,
    weights: Sequence[np.ndarray],
    certificate: NetworkCertificate,
    remainder: float = 0.0,
    reading: dict[str, Any] | None = None,
) -> NetworkRecord:
    """The record of `certificate` for the network `name` with these `weights`."""
    return NetworkRecord(name, tuple(map(weight_digest, weights)), certificate, remainder, reading or {})


def verify_network(
    entry: NetworkRecord, weights: Sequence[np.ndarray], remainder: float = 0.0
) -> Verification:
    """Proves the bound of `entry` again with the kernel alone: no solver, no torch, nothing that proposed the multipliers.

    `remainder` is what merging the layers of the file into `weights` rounds off, computed anew.
    """
    if tuple(map(weight_digest, weights)) != entry.digests:
        reason = (
            "the weights are not those that were certified (a SHA-256 differs): certify this network anew"
        )
        return Verification(entry.name, False, reason)
    proof = entry.certificate
    if not remainder <= entry.remainder:
        reason = f"merging the layers rounds off {remainder!r}, more than the claimed {entry.remainder!r}: certify it anew"
        return Verification(entry.name, False, reason)
    try:
        proven = network_holds(weights, proof.multipliers, proof.slopes, proof.bound)
    except SdplipError as error:
        return Verification(entry.name, False, str(error))
    if not proven:
        return Verification(
            entry.name, False, f"L <= {proof.bound!r} could not be proven with the stored multipliers"
        )
    return Verification(entry.name, True, f"proven again: L <= {entry.bound:.12g}")


def save_network(path: str | os.PathLike[str], entry: NetworkRecord) -> None:
    """Writes a network certificate file; the file appears whole or not at all."""
    proof = entry.certificate
    body = {
        "name": entry.name,
        "sha256": list(entry.digests),
        "bound": proof.bound,
        "method": proof.method,
        "slopes": [{"alpha": _brief(a), "beta": _brief(b)} for a, b in proof.slopes],
        "multipliers": [v.tolist() for v in proof.multipliers],
    }
    if entry.remainder:
        body |= {"bound": entry.bound, "chain_bound": proof.bound, "remainder": entry.remainder}
    if entry.reading:
        body["reading"] = entry.reading
    document.write(path, SCHEMA, body)


def load_network(path: str | os.PathLike[str]) -> NetworkRecord:
    """The record of a network certificate file.

    Raises:
        InvalidCertificate: not JSON, another schema, or a missing or malformed field.
    """
    return document.read(path, SCHEMA, _record, "save_network")


def _record(found: dict[str, Any]) -> NetworkRecord:
    multipliers = tuple(np.array(v, np.float64) for v in found["multipliers"])
    slopes = tuple(
        (
            np.zeros(len(v)) + np.array(pair["alpha"], np.float64),
            np.zeros(len(v)) + np.array(pair["beta"], np.float64),
        )
        for v, pair in zip(multipliers, found["slopes"], strict=True)
    )
    remainder = float(found.get("remainder", 0.0))
    bound = float(found["chain_bound" if remainder else "bound"])
    certificate = NetworkCertificate(bound, multipliers, slopes, str(found["method"]))
    digests = tuple(map(str, found["sha256"]))
    entry = NetworkRecord(str(found["name"]), digests, certificate, remainder, dict(found.get("reading", {})))
    if not (remainder >= 0 and entry.bound <= float(found["bound"])):
        raise ValueError(f"bound {found['bound']} does not follow from {bound} and the remainder {remainder}")
    return entry


def _brief(v: np.ndarray) -> float | list[float]:
    """One number where all are equal."""
    return float(v[0]) if len(v) and (v == v[0]).all() else v.tolist()
