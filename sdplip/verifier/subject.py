"""What a certificate is about, rebuilt from the weight file alone: the network, or its layers one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidCertificate, NotProvable
from sdplip.kernel.claim import AccuracyClaim, Claim, ConditionClaim, LipschitzClaim
from sdplip.network import Network
from sdplip.network.read.file import KINDS, read_file
from sdplip.network.read.understood import Understood
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

    @cached_property
    def layers(self) -> dict[str, Weight]:
        """The layers of the file by name.

        Raises:
            NotProvable: the file was read as a network.
        """
        if self.reading["kind"] != LAYERS:
            raise NotProvable(
                "The claim is about one layer, but the certificate reads the file as a network."
            )
        from sdplip.weights.read import read

        return {
            weight.name: weight for weight in read(self.path, transpose=self.reading.get("transpose", False))
        }

    def layer(self, name: str) -> Weight:
        """The layer called `name`.

        Raises:
            NotProvable: there is none.
        """
        if name not in self.layers:
            raise NotProvable(f"`{self.path}` has no layer `{name}`.")
        return self.layers[name]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the file does not say itself, in words."""
        if self.reading["kind"] == LAYERS:
            stored = "the file stores matrices (in, out) and kernels (*taps, in, out)"
            return (stored,) if self.reading.get("transpose") else ()
        return self.understood.sentences

    def left_out_of(self, claims: Sequence[Claim]) -> tuple[tuple[str, str], ...]:
        """Arrays of the file that no claim is about."""
        if self.reading["kind"] != LAYERS:
            return self.understood.left_out
        named = {claim.layer for claim in claims if isinstance(claim, ConditionClaim)}
        return tuple((name, "no claim names this layer") for name in self.layers if name not in named)


def subject_of(path: Path, reading: Mapping[str, Any], claims: Sequence[Claim]) -> Subject:
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
        isinstance(claim, AccuracyClaim) or (isinstance(claim, LipschitzClaim) and claim.region is not None)
        for claim in claims
    )
    return Subject(path, reading, biases)
