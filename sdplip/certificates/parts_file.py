"""Certificates of networks that are proven part by part, as JSON files, and the check that proves a file's bound again."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sdplip.certificates import document
from sdplip.certificates.file import Verification, weight_digest
from sdplip.certificates.network import Slopes
from sdplip.certificates.parts import CLOSED, ROOM, Part, PartProof, arrays, composed, part_holds
from sdplip.certificates.rounding import up
from sdplip.errors import SdplipError

SCHEMA = "sdplip-parts-certificate/1"


@dataclass(frozen=True, eq=False)
class PartsRecord:
    """The proofs of the parts of a network, and what they speak of.

    Attributes:
        name: of the file.
        digests: SHA-256 of the weights of each part, in the form that its proof needs.
        slopes: of the activations of the network, first one first; one number, or one a neuron.
        bound: of the whole network.
        proofs: of the parts, first one first.
        method: how the proofs were found; no part of them.
        reading: how the file is read as a network, as options of `sdplip bound`.
    """

    name: str
    digests: tuple[tuple[str, ...], ...]
    slopes: tuple[Slopes, ...]
    bound: float
    proofs: tuple[PartProof, ...]
    method: str
    reading: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Whole:
    """A network for this check: its parts, the product of the overlaps of its maxima, slopes that stand alone between them."""

    parts: tuple[Part, ...]
    overlap: int
    alone: tuple[float, ...]

    def composed(self, proofs: Sequence[PartProof]) -> float:
        """The bound that follows from those of the parts."""
        return composed([proof.bound for proof in proofs], self.overlap, self.alone)


def parts_record(
    name: str,
    whole: Whole,
    slopes: Sequence[Slopes],
    proofs: Sequence[PartProof],
    method: str,
    reading: dict[str, Any] | None = None,
) -> PartsRecord:
    """The record of `proofs`; bounds that a check computes anew get `ROOM`, so the whole may claim that much more."""
    roomy = tuple(map(_with_room, proofs))
    return PartsRecord(
        name, _digests(whole), tuple(slopes), whole.composed(roomy), roomy, method, reading or {}
    )


def verify_parts(entry: PartsRecord, whole: Whole) -> Verification:
    """Proves the bound of `entry` again with the kernel alone; `whole` is the network with the slopes of `entry`."""
    if _digests(whole) != entry.digests:
        reason = (
            "the weights are not those that were certified (a SHA-256 differs): certify this network anew"
        )
        return Verification(entry.name, False, reason)
    for number, (part, proof) in enumerate(zip(whole.parts, entry.proofs, strict=True), 1):
        try:
            holds = part_holds(part, proof)
        except SdplipError as error:
            return Verification(entry.name, False, f"part {number}: {error}")
        if not holds:
            reason = f"L <= {proof.bound!r} of part {number} ({proof.kind}) could not be proven"
            return Verification(entry.name, False, reason)
    total = whole.composed(entry.proofs)
    if not total <= entry.bound:
        reason = f"the parts prove L <= {total!r} together, not the claimed {entry.bound!r}"
        return Verification(entry.name, False, reason)
    return Verification(entry.name, True, f"proven again: L <= {entry.bound:.12g}")


def save_parts(path: str | os.PathLike[str], entry: PartsRecord) -> None:
    """Writes a certificate file; it appears whole or not at all."""
    body = {
        "name": entry.name,
        "sha256": [list(part) for part in entry.digests],
        "bound": entry.bound,
        "method": entry.method,
        "slopes": _slopes(entry.slopes),
        "parts": [_to_json(proof) for proof in entry.proofs],
    }
    if entry.reading:
        body["reading"] = entry.reading
    document.write(path, SCHEMA, body)


def load_parts(path: str | os.PathLike[str]) -> PartsRecord:
    """The record of a file.

    Raises:
        InvalidCertificate: not JSON, another schema, or a missing or malformed field.
    """
    return document.read(path, SCHEMA, _record, "save_parts")


def _record(found: dict[str, Any]) -> PartsRecord:
    return PartsRecord(
        str(found["name"]),
        tuple(tuple(map(str, part)) for part in found["sha256"]),
        _to_slopes(found["slopes"]),
        float(found["bound"]),
        tuple(map(_proof, found["parts"])),
        str(found["method"]),
        dict(found.get("reading", {})),
    )


def _with_room(proof: PartProof) -> PartProof:
    if proof.kind in CLOSED:
        return replace(proof, bound=up(proof.bound * (1 + ROOM)))
    if proof.tail is None or proof.tail.kind not in CLOSED:
        return proof
    return replace(proof, bound=up(proof.bound * (1 + 2 * ROOM)), tail=_with_room(proof.tail))


def _digests(whole: Whole) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(map(weight_digest, arrays(part))) for part in whole.parts)


def _to_json(proof: PartProof) -> dict[str, Any]:
    body: dict[str, Any] = {"kind": proof.kind, "bound": proof.bound}
    if proof.kind in CLOSED:
        return body
    body["multipliers"] = [v.tolist() for v in proof.multipliers]
    if proof.kind == "multipliers":
        return body | {"chain_bound": proof.inner, "slopes": _slopes(proof.slopes)}
    assert proof.front is not None
    body["front"] = [row[: i + 1].tolist() for i, row in enumerate(proof.front)]  # lower triangular
    return body if proof.tail is None else body | {"tail": _to_json(proof.tail)}


def _proof(found: dict[str, Any]) -> PartProof:
    kind, bound = found["kind"], float(found["bound"])
    if kind in CLOSED:
        return PartProof(kind, bound)
    multipliers = tuple(np.array(v, np.float64) for v in found["multipliers"])
    if kind == "multipliers":
        slopes = tuple(
            (np.zeros(len(v)) + a, np.zeros(len(v)) + b)
            for v, (a, b) in zip(multipliers, _to_slopes(found["slopes"]), strict=True)
        )
        return PartProof(kind, bound, float(found["chain_bound"]), multipliers, slopes)
    if kind not in ("trunk", "strip"):
        raise ValueError(f"a proof of kind {kind!r} is not known")
    rows = found["front"]
    front = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        front[i, : i + 1] = row
    tail = _proof(found["tail"]) if "tail" in found else None
    return PartProof(kind, bound, multipliers=multipliers, front=front, tail=tail)


def _slopes(pairs: Sequence[Slopes]) -> list[dict[str, Any]]:
    return [{"alpha": _brief(a), "beta": _brief(b)} for a, b in pairs]


def _to_slopes(found: list[dict[str, Any]]) -> tuple[Slopes, ...]:
    return tuple((np.array(p["alpha"], np.float64), np.array(p["beta"], np.float64)) for p in found)


def _brief(v: np.ndarray) -> float | list[float]:
    """One number where all are equal."""
    return float(v.flat[0]) if v.size and (v == v.flat[0]).all() else v.tolist()
