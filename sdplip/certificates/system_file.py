"""Certificates of systems of increments as JSON files: sorting, residual sums, regions and pairs of outputs; and their check."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sdplip.certificates import document
from sdplip.certificates.file import Verification, weight_digest
from sdplip.certificates.narrow import narrowed
from sdplip.certificates.region import Ball, Box, Cut, Region, localise
from sdplip.certificates.system import Layers, Map, Skip, Slope, Sort, System, expand
from sdplip.certificates.system_proof import SystemCertificate, system_holds
from sdplip.errors import SdplipError

SCHEMA = "sdplip-system-certificate/1"


@dataclass(frozen=True, eq=False)
class Claim:
    """What is bounded: the network, where, and of which output.

    Attributes:
        layers: the network; read from a certificate file its matrices are placeholders until `with_maps`.
        region: the inputs that are meant; None is all.
        pair: output i minus output j; None is all outputs.
        row: this output alone; not together with a pair.
    """

    layers: Layers
    region: Region | None = None
    pair: tuple[int, int] | None = None
    row: int | None = None

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return next(maps(self.layers)).W.shape[1]

    def on_region(self) -> Layers:
        """The layers with the slopes that occur on the region, and what the pair or row chooses behind them.

        Raises:
            InvalidProblem: what a layer does on a region is not known.
        """
        layers = self.layers if self.region is None else localise(self.layers, self.region)
        return layers if self.pair is None and self.row is None else (*layers, self._chosen())

    def system(self) -> System:
        """What the kernel proves."""
        layers = narrowed(self.on_region())
        return expand(layers, next(maps(layers)).W.shape[1])

    def with_maps(self, found: Sequence[Map]) -> "Claim":
        """The same claim with these matrices, in order."""
        return replace(self, layers=_filled(self.layers, iter(found)))

    def _chosen(self) -> Map:
        *_, last = maps(self.layers)
        row = np.zeros((1, len(last.W)))
        if self.pair is not None:
            row[0, self.pair[0]], row[0, self.pair[1]] = 1.0, -1.0
        elif self.row is not None:
            row[0, self.row] = 1.0
        return Map(row)


def maps(layers: Layers) -> Iterator[Map]:
    """All matrices, in the order of the layers, those of residual branches where these stand."""
    for layer in layers:
        if isinstance(layer, Map):
            yield layer
        elif isinstance(layer, Skip):
            yield from maps(layer.branch)


def _filled(layers: Layers, found: Iterator[Map]) -> tuple[Map | Slope | Sort | Skip, ...]:
    return tuple(
        next(found)
        if isinstance(layer, Map)
        else Skip(_filled(layer.branch, found))
        if isinstance(layer, Skip)
        else layer
        for layer in layers
    )


@dataclass(frozen=True, eq=False)
class SystemRecord:
    """A certificate, its claim, and the SHA-256 digests of matrices and biases (None: no bias)."""

    name: str
    digests: tuple[tuple[str, str | None], ...]
    claim: Claim
    certificate: SystemCertificate
    reading: dict[str, Any] = field(default_factory=dict)


def system_record(
    name: str, claim: Claim, certificate: SystemCertificate, reading: dict[str, Any] | None = None
) -> SystemRecord:
    """The record of `certificate` for `claim`; `reading` says how the file is read as a network, as options of `bound`."""
    return SystemRecord(name, tuple(map(digest, maps(claim.layers))), claim, certificate, reading or {})


def verify_system(entry: SystemRecord, found: Sequence[Map]) -> Verification:
    """Proves the claim again, with the matrices and biases `found`, by the kernel alone: slopes on the region included."""
    if not same_weights(entry.digests, entry.claim, found):
        return Verification(entry.name, False, OTHER_WEIGHTS)
    proof = entry.certificate
    try:
        proven = system_holds(entry.claim.with_maps(found).system(), proof.multipliers, proof.bound)
    except SdplipError as error:
        return Verification(entry.name, False, str(error))
    if not proven:
        reason = f"L <= {proof.bound!r} could not be proven with the stored multipliers"
        return Verification(entry.name, False, reason)
    return Verification(entry.name, True, f"proven again: L <= {proof.bound:.12g}")


OTHER_WEIGHTS = "the weights are not those that were certified (a SHA-256 differs): certify this network anew"


def same_weights(digests: tuple[tuple[str, str | None], ...], claim: Claim, found: Sequence[Map]) -> bool:
    """Whether `found` are the matrices of the digests; biases count on a region only, elsewhere they do not matter."""
    new = tuple(map(digest, found))
    return [a for a, _ in new] == [a for a, _ in digests] and (claim.region is None or new == digests)


def save_system(path: str | os.PathLike[str], entry: SystemRecord) -> None:
    """Writes a certificate file; it appears whole or not at all."""
    proof = entry.certificate
    body = {
        "name": entry.name,
        "sha256": [list(pair) for pair in entry.digests],
        "bound": proof.bound,
        "method": proof.method,
        **described(entry.claim),
        "output_pair": entry.claim.pair,
        "multipliers": proof.multipliers.tolist(),
    }
    if entry.claim.row is not None:
        body["output_row"] = entry.claim.row
    if entry.reading:
        body["reading"] = entry.reading
    document.write(path, SCHEMA, body)


def load_system(path: str | os.PathLike[str]) -> SystemRecord:
    """The record of a file; its layers have no matrices yet.

    Raises:
        InvalidCertificate: not JSON, another schema, or a missing or malformed field.
    """
    return document.read(path, SCHEMA, _record, "save_system")


def described(claim: Claim) -> dict[str, Any]:
    """Layers and region of a claim as JSON; `claim_of` reads them."""
    return {"layers": structure(claim.layers), "region": _region(claim.region)}


def structure(layers: Layers) -> list[dict[str, Any]]:
    """The layers without the numbers of their matrices, as JSON."""
    found = list[dict[str, Any]]()
    for layer in layers:
        if isinstance(layer, Map):
            found.append({"map": list(layer.W.shape)})
        elif isinstance(layer, Slope):
            slopes = {"alpha": layer.alpha.tolist(), "beta": layer.beta.tolist()}
            found.append({"slope": slopes | {"kind": layer.kind}})
        elif isinstance(layer, Sort):
            found.append({"sort": np.asarray(layer.groups).tolist()})
        else:
            found.append({"skip": structure(layer.branch)})
    return found


def _layers(found: list[dict[str, Any]]) -> tuple[Map | Slope | Sort | Skip, ...]:
    layers = list[Map | Slope | Sort | Skip]()
    for entry in found:
        ((kind, value),) = entry.items()
        if kind == "map":
            layers.append(Map(np.zeros(tuple(map(int, value)))))
        elif kind == "slope":
            alpha, beta = (np.array(value[side], np.float64) for side in ("alpha", "beta"))
            layers.append(Slope(alpha, beta, str(value["kind"])))
        elif kind == "sort":
            layers.append(Sort(np.array(value, int)))
        elif kind == "skip":
            layers.append(Skip(_layers(value)))
        else:
            raise ValueError(f"layer {kind!r} is not known")
    return tuple(layers)


def _region(region: Region | None) -> dict[str, Any] | None:
    if region is None:
        return None
    if isinstance(region, Ball):
        return {"center": region.center.tolist(), "radius": region.radius}
    if isinstance(region, Box):
        return {"lower": region.lower.tolist(), "upper": region.upper.tolist()}
    return {**(_region(region.ball) or {}), **(_region(region.box) or {})}


def _region_of(where: dict[str, Any] | None) -> Region | None:
    if where is None:
        return None
    ball = Ball(np.array(where["center"], np.float64), float(where["radius"])) if "radius" in where else None
    box = (
        Box(np.array(where["lower"], np.float64), np.array(where["upper"], np.float64))
        if "lower" in where
        else None
    )
    if ball and box:
        return Cut(ball, box)
    if ball is None and box is None:
        raise ValueError("the region is neither a ball nor a box")
    return ball or box


def claim_of(found: dict[str, Any]) -> Claim:
    """The claim of a document about all outputs; its layers have no matrices yet."""
    return Claim(_layers(found["layers"]), _region_of(found["region"]))


def digests_of(found: dict[str, Any]) -> tuple[tuple[str, str | None], ...]:
    """The digests of a document."""
    return tuple((str(W), None if b is None else str(b)) for W, b in found["sha256"])


def _record(found: dict[str, Any]) -> SystemRecord:
    pair, row = found["output_pair"], found.get("output_row")
    pair = None if pair is None else (int(pair[0]), int(pair[1]))
    claim = replace(claim_of(found), pair=pair, row=None if row is None else int(row))
    certificate = SystemCertificate(
        float(found["bound"]), np.array(found["multipliers"], np.float64), str(found["method"])
    )
    return SystemRecord(
        str(found["name"]), digests_of(found), claim, certificate, dict(found.get("reading", {}))
    )


def digest(layer: Map) -> tuple[str, str | None]:
    """SHA-256 of the matrix, and of the bias where it is not zero."""
    bias = None if layer.b is None or not np.any(layer.b) else weight_digest(np.asarray(layer.b)[None])
    return weight_digest(layer.W), bias
