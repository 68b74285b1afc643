"""What a certificate is about, rebuilt from the weight file alone: the network, or its layers one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidCertificate, NotProvable
from sdplip.kernel.proof import Proof
from sdplip.network import Network
from sdplip.network.read.file import KINDS, read_file
from sdplip.network.read.understood import Understood
from sdplip.verifier.claim import AccuracyClaim, Claim, ConditionClaim, LipschitzClaim
from sdplip.verifier.pixels import PixelClaim
from sdplip.weights.weight import Weight

LAYERS = "layers"
"""The kind of reading that is about layers one by one, beside those of `network.read.file`."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The file, read as the certificate says it was; what is read does not depend on any claim.

    Attributes:
        reading: `{"kind": ..., ...}`, the rest as the reader of that kind takes it.
        biases: whether a claim depends on the biases.
    """

    path: Path
    reading: Mapping[str, Any]
    biases: bool = True

    @cached_property
    def understood(self) -> Understood:
        """The network with what was assumed.

        Raises:
            NotProvable: the file was read layer by layer.
            SdplipError: it cannot be read.
        """
        if self.reading["kind"] == LAYERS:
            raise NotProvable(
                "The claim is about a network, but the certificate reads the file layer by layer."
            )
        return read_file(self.path, self.reading, biases=self.biases, compare=False)

    @property
    def network(self) -> Network:
        return self.understood.network

    def layer(self, name: str) -> Weight:
        """The layer called `name`; its geometry where the file says that, which is in ONNX alone.

        Raises:
            NotProvable: the file was read as a network.
            UnknownLayer: there is none.
        """
        if self.reading["kind"] != LAYERS:
            raise NotProvable(
                "The claim is about one layer, but the certificate reads the file as a network."
            )
        from sdplip.weights.read import read
        from sdplip.weights.sniff import sniff

        (found,) = read(self.path, transpose=self.reading.get("transpose"), layers=(name,))
        return found if sniff(self.path) == "onnx" else replace(found, geometry=None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the file does not say itself, in words."""
        if self.reading["kind"] == LAYERS:
            turned = self.reading.get("transpose")
            stored = "(in, out) and (*taps, in, out)" if turned else "(out, in)"
            return () if turned is None else (f"The file stores {stored}, as was said.",)
        return self.understood.sentences

    def left_out_of(self, claims: Sequence[Claim]) -> tuple[tuple[str, str], ...]:
        """Arrays of the file that no claim is about."""
        if self.reading["kind"] != LAYERS:
            return self.understood.left_out
        from sdplip.weights.read import names

        named = {claim.layer for claim in claims if isinstance(claim, ConditionClaim)}
        named |= {layer.rpartition("#")[0] for layer in named}  # one of the uses of an array of ONNX
        return tuple((name, "no claim names it") for name in names(self.path) if name not in named)


def subject_of(
    path: Path, reading: Mapping[str, Any], claims: Sequence[Claim], proofs: Sequence[Proof] = ()
) -> Subject:
    """The subject of a document.

    Raises:
        InvalidCertificate: a reading that is not known, claims that do not go with it.
    """
    kind = reading.get("kind")
    if kind not in (*KINDS, LAYERS):
        raise InvalidCertificate(
            f"The certificate does not say how the weight file was read (`kind` is {str(kind)[:40]!r}). Make it anew."
        )
    layered = [isinstance(claim, ConditionClaim) for claim in claims]
    if any(layered) != all(layered) or (kind == LAYERS) != all(layered):
        raise InvalidCertificate(
            "The claims do not go with the way in which the file was read. Make the certificate anew."
        )
    if kind == LAYERS and (
        set(reading) - {"kind", "transpose"} or not isinstance(reading.get("transpose", False), bool)
    ):
        raise InvalidCertificate("The certificate says of its layers what nobody knows. Make it anew.")
    biases = any(
        isinstance(claim, AccuracyClaim | PixelClaim)
        or (isinstance(claim, LipschitzClaim) and claim.region is not None)
        for claim in claims
    )
    return Subject(path, reading, biases or any(map(uses_values, proofs)))


def uses_values(proof: Proof) -> bool:
    """Whether the proof may rest on the values of a network, which its biases make, for all inputs too."""
    return proof.rule == "patterns" or any(map(uses_values, proof.parts))
