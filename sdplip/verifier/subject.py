"""What a certificate is about, rebuilt from the weight file alone: the network, or its layers one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidCertificate, NotProvable
from sdplip.kernel.claim import AccuracyClaim, Claim, ConditionClaim, LipschitzClaim
from sdplip.network import Network
from sdplip.network.file import read_network
from sdplip.network.read.understood import Understood
from sdplip.weights.weight import Weight

KINDS = ("network", "onnx", "weights", "layers")
"""How a file may have been read: a network file, an ONNX graph, bare weights as a network, or layer by layer."""


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
        return understand(self.path, self.reading, biases=self.biases)

    @property
    def network(self) -> Network:
        return self.understood.network

    @cached_property
    def layers(self) -> dict[str, Weight]:
        """The layers of the file by name.

        Raises:
            NotProvable: the file was read as a network.
        """
        if self.reading["kind"] != "layers":
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
        if self.reading["kind"] == "layers":
            stored = "the file stores matrices (in, out) and kernels (*taps, in, out)"
            return (stored,) if self.reading.get("transpose") else ()
        return self.understood.sentences

    def left_out_of(self, claims: Sequence[Claim]) -> tuple[tuple[str, str], ...]:
        """Arrays of the file that no claim is about."""
        if self.reading["kind"] != "layers":
            return self.understood.left_out
        named = {claim.layer for claim in claims if isinstance(claim, ConditionClaim)}
        return tuple((name, "no claim names this layer") for name in self.layers if name not in named)


def subject_of(path: Path, reading: Mapping[str, Any], claims: Sequence[Claim]) -> Subject:
    """The subject of a document.

    Raises:
        InvalidCertificate: a reading that is not known, claims that do not go with it.
    """
    kind = reading.get("kind")
    if kind not in KINDS:
        raise InvalidCertificate(
            f"The certificate does not say how the weight file was read (`kind` is {str(kind)[:40]!r}). Make it anew."
        )
    layered = [isinstance(claim, ConditionClaim) for claim in claims]
    if any(layered) != all(layered) or (kind == "layers") != all(layered):
        raise InvalidCertificate(
            "The claims do not go with the way in which the file was read. Make the certificate anew."
        )
    if kind == "layers" and (
        set(reading) - {"kind", "transpose"} or not isinstance(reading.get("transpose", False), bool)
    ):
        raise InvalidCertificate("The certificate says of its layers what nobody knows. Make it anew.")
    biases = any(
        isinstance(claim, AccuracyClaim) or (isinstance(claim, LipschitzClaim) and claim.region is not None)
        for claim in claims
    )
    return Subject(path, reading, biases)


def understand(
    path: Path, reading: Mapping[str, Any], *, biases: bool = True, compare: bool = False
) -> Understood:
    """The network of a file, read in that way.

    Args:
        reading: `{"kind": "network" | "onnx" | "weights", ...}`.
        biases: whether the biases of bare weights matter.
        compare: evaluate what was understood of an ONNX graph beside a reference.

    Raises:
        InvalidCertificate: a reading that is not known.
        NotProvable: a file that is read layer by layer.
        SdplipError: the file cannot be read.
    """
    kind, rest = reading.get("kind"), {key: value for key, value in reading.items() if key != "kind"}
    if kind == "network":
        if rest:
            raise InvalidCertificate("A network file needs no assumptions. Make the certificate anew.")
        return Understood(read_network(path), {"kind": "network"})
    if kind == "onnx":
        if set(rest) - {"inputs", "outputs"} or not all(
            v is None or isinstance(v, str) for v in rest.values()
        ):
            raise InvalidCertificate(
                "How the ONNX graph was read is not understood. Make the certificate anew."
            )
        from sdplip.network.read.onnx import read_onnx

        found = read_onnx(path, inputs=rest.get("inputs"), outputs=rest.get("outputs"), compare=compare)
    elif kind == "weights":
        from sdplip.network.read.weights import Assumptions, read_weights_network

        found = read_weights_network(path, Assumptions.from_json(rest), biases=biases)
    else:
        raise NotProvable("The claim is about a network, but the certificate reads the file layer by layer.")
    return Understood(
        found.network, {"kind": kind, **found.reading}, found.sentences, found.left_out, found.checked
    )


def kind_of(path: Path) -> str:
    """How a file is read where nothing else is said: "network", "onnx" or "weights".

    Raises:
        UnreadableFile: not there, or of no format that is known.
    """
    from sdplip.network.file import holds_network
    from sdplip.weights.sniff import sniff

    form = sniff(path)
    if form == "safetensors" and holds_network(path):
        return "network"
    return "onnx" if form == "onnx" else "weights"
