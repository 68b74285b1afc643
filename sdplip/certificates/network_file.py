"""Network certificates as JSON files, and the check that proves a file's bound again from the weights alone."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.certificates.file import Verification, weight_digest
from sdplip.certificates.network import NetworkCertificate, network_holds
from sdplip.errors import InvalidCertificate, SdplipError

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
    document = {
        "schema": SCHEMA,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "name": entry.name,
        "sha256": list(entry.digests),
        "bound": proof.bound,
        "method": proof.method,
        "slopes": [{"alpha": _brief(a), "beta": _brief(b)} for a, b in proof.slopes],
        "multipliers": [v.tolist() for v in proof.multipliers],
    }
    path = Path(path)
    part = path.with_name(path.name + ".tmp")
    part.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    os.replace(part, path)


def load_network(path: str | os.PathLike[str]) -> NetworkRecord:
    """The record of a network certificate file.

    Raises:
        InvalidCertificate: not JSON, another schema, or a missing or malformed field.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise InvalidCertificate(
            f"`{path}` is not a readable certificate file: {error}. Make one with `save_network`."
        ) from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise InvalidCertificate(
            f"`{path}` is not a certificate of schema {SCHEMA}. Make one with `save_network`."
        )
    try:
        return _record(document)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidCertificate(
            f"`{path}` is malformed: {error!r}. Make it anew with `save_network`."
        ) from None


def _record(document: dict[str, Any]) -> NetworkRecord:
    multipliers = tuple(np.array(v, np.float64) for v in document["multipliers"])
    slopes = tuple(
        (
            np.zeros(len(v)) + np.array(pair["alpha"], np.float64),
            np.zeros(len(v)) + np.array(pair["beta"], np.float64),
        )
        for v, pair in zip(multipliers, document["slopes"], strict=True)
    )
    certificate = NetworkCertificate(float(document["bound"]), multipliers, slopes, str(document["method"]))
    return NetworkRecord(str(document["name"]), tuple(map(str, document["sha256"])), certificate)


def _brief(v: np.ndarray) -> float | list[float]:
    """One number where all are equal."""
    return float(v[0]) if len(v) and (v == v[0]).all() else v.tolist()


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
