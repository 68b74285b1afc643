"""Certificates as JSON files, and the check that proves a file's claims again from the weights alone."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sdplip.certificates import document
from sdplip.errors import SdplipError
from sdplip.geometry import Geometry
from sdplip.kernel.condition import (
    Certificate,
    convolution_holds,
    convolution_lower_bound,
    holds,
    lower_bound,
)

SCHEMA = "sdplip-certificate/1"


@dataclass(frozen=True, eq=False)
class Record:
    """One layer of a certificate file: which weight it speaks of, and what was proven."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    certificate: Certificate


@dataclass(frozen=True)
class Verification:
    """Whether one record was proven again, and the sentence that says why (not)."""

    name: str
    proven: bool
    reason: str


def record(name: str, weight: np.ndarray, certificate: Certificate) -> Record:
    """The record of `certificate` for the layer `name`; `weight` is the array as its file stores it, `(out, in, *taps)`."""
    return Record(name, weight.dtype.str, weight.shape, weight_digest(weight), certificate)


def weight_digest(weight: np.ndarray) -> str:
    """SHA-256 of the array: type, shape and little-endian bytes in C order."""
    little = np.ascontiguousarray(weight, weight.dtype.newbyteorder("<"))
    header = f"{little.dtype.str} {weight.shape}\n".encode()
    return hashlib.sha256(header + little.tobytes()).hexdigest()


def verify(entry: Record, weight: np.ndarray) -> Verification:
    """Proves the claims of `entry` again for `weight` with the kernel alone: no solver, no torch, nothing that proposed `t`."""
    certificate = entry.certificate
    if weight_digest(weight) != entry.sha256:
        reason = "the weight is not the one that was certified (its SHA-256 differs): certify this file anew"
        return Verification(entry.name, False, reason)
    try:
        upper, lower = _prove(certificate, weight)
    except SdplipError as error:
        return Verification(entry.name, False, str(error))
    if not upper:
        return Verification(
            entry.name, False, f"W^T W <= c^2 T could not be proven for c = {certificate.c!r}"
        )
    if not lower >= certificate.c_lower:
        reason = f"the witness proves only c >= {lower!r}, not the claimed c_lower = {certificate.c_lower!r}"
        return Verification(entry.name, False, reason)
    return Verification(
        entry.name, True, f"proven again: {certificate.c_lower:.12g} <= c <= {certificate.c:.12g}"
    )


def _prove(certificate: Certificate, weight: np.ndarray) -> tuple[bool, float]:
    if certificate.geometry is not None:
        return convolution_holds(weight, certificate), convolution_lower_bound(weight, certificate)
    W = weight if certificate.form == "linear" else weight.T
    return holds(W, certificate.t, certificate.c), lower_bound(W, certificate.t, certificate.witness)


def save(path: str | os.PathLike[str], records: Iterable[Record]) -> None:
    """Writes a certificate file; the file appears whole or not at all."""
    document.write(path, SCHEMA, {"layers": [_to_json(entry) for entry in records]})


def load(path: str | os.PathLike[str]) -> tuple[Record, ...]:
    """The records of a certificate file.

    Raises:
        InvalidCertificate: not JSON, another schema, a missing or malformed field, or a witness that does not match its digest.
    """
    return document.read(
        path, SCHEMA, lambda found: tuple(map(_from_json, found["layers"])), "sdplip check --certificate"
    )


def _witness_digest(witness: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(witness, "<f8").tobytes()).hexdigest()


def _to_json(entry: Record) -> dict[str, Any]:
    proof = entry.certificate
    return {
        "name": entry.name,
        "dtype": entry.dtype,
        "shape": list(entry.shape),
        "sha256": entry.sha256,
        "form": proof.form,
        "scaling": proof.scaling,
        "geometry": None if proof.geometry is None else asdict(proof.geometry),
        "grid": proof.grid,
        "c": proof.c,
        "c_lower": proof.c_lower,
        "bound": proof.bound,
        "t": proof.t.tolist(),
        "frequency": proof.frequency,
        "witness": proof.witness.tolist(),
        "witness_sha256": _witness_digest(proof.witness),
    }


def _from_json(layer: dict[str, Any]) -> Record:
    witness = np.array(layer["witness"], np.float64)
    if _witness_digest(witness) != layer["witness_sha256"]:
        raise ValueError(f"the witness of layer {layer['name']} does not match its digest")
    if layer["form"] not in ("linear", "residual"):
        raise ValueError(f"form {layer['form']!r} is neither linear nor residual")
    certificate = Certificate(
        t=np.array(layer["t"], np.float64),
        c=float(layer["c"]),
        c_lower=float(layer["c_lower"]),
        witness=witness,
        form=layer["form"],
        scaling=str(layer["scaling"]),
        geometry=None if layer["geometry"] is None else Geometry(**_tuples(layer["geometry"])),
        grid=_tuple(layer["grid"]),
        frequency=_tuple(layer["frequency"]),
    )
    if certificate.bound != layer["bound"]:
        raise ValueError(
            f"bound {layer['bound']} of layer {layer['name']} does not follow from c = {certificate.c}"
        )
    return Record(
        str(layer["name"]), str(layer["dtype"]), tuple(layer["shape"]), str(layer["sha256"]), certificate
    )


def _tuple(value: list[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
