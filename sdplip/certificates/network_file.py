"""Network certificates as JSON files, and the check that proves a file's bound again from the weights alone."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdplip.certificates import document
from sdplip.certificates.file import Verification, weight_digest
from sdplip.certificates.network import NetworkCertificate, network_holds
from sdplip.errors import SdplipError

SCHEMA = "sdplip-network-certificate/1"


@dataclass(frozen=True, eq=False)
class NetworkRecord:
    """A network certificate and the SHA-256 digests of the weights that it speaks of, first layer first."""

    name: str
    digests: tuple[str, ...]
    certificate: NetworkCertificate


def network_record(
    name: str, weights: Sequence[np.ndarray], certificate: NetworkCertificate
) -> NetworkRecord:
    """The record of `certificate` for the network `name` with these `weights`."""
    return NetworkRecord(name, tuple(map(weight_digest, weights)), certificate)


def verify_network(entry: NetworkRecord, weights: Sequence[np.ndarray]) -> Verification:
    """Proves the bound of `entry` again with the kernel alone: no solver, no torch, nothing that proposed the multipliers."""
    if tuple(map(weight_digest, weights)) != entry.digests:
        reason = (
            "the weights are not those that were certified (a SHA-256 differs): certify this network anew"
        )
        return Verification(entry.name, False, reason)
    proof = entry.certificate
    try:
        proven = network_holds(weights, proof.multipliers, proof.slopes, proof.bound)
    except SdplipError as error:
        return Verification(entry.name, False, str(error))
    if not proven:
        return Verification(
            entry.name, False, f"L <= {proof.bound!r} could not be proven with the stored multipliers"
        )
    return Verification(entry.name, True, f"proven again: L <= {proof.bound:.12g}")


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
    certificate = NetworkCertificate(float(found["bound"]), multipliers, slopes, str(found["method"]))
    return NetworkRecord(str(found["name"]), tuple(map(str, found["sha256"])), certificate)


def _brief(v: np.ndarray) -> float | list[float]:
    """One number where all are equal."""
    return float(v[0]) if len(v) and (v == v[0]).all() else v.tolist()
