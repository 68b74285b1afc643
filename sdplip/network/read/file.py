"""Any file as a network: network files, ONNX graphs, bare weights; what was assumed comes with it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidCertificate
from sdplip.network.file import holds_network, read_network
from sdplip.network.read.understood import Understood

KINDS = ("network", "onnx", "weights", "equilibrium")
"""How a file may be read: a network file, an ONNX graph, bare weights, the arrays of an equilibrium network."""


def kind_of(path: str | os.PathLike[str]) -> str:
    """The kind of a file.

    Raises:
        UnreadableFile: not there, or of no format that is known.
    """
    from sdplip.weights.sniff import sniff

    form = sniff(Path(path))
    if form == "safetensors" and holds_network(path):
        return "network"
    from sdplip.network.read.equilibrium import holds_equilibrium

    if holds_equilibrium(path, form):
        return "equilibrium"
    return "onnx" if form == "onnx" else "weights"


def read_file(
    path: str | os.PathLike[str],
    reading: Mapping[str, Any] | None = None,
    *,
    biases: bool = True,
    compare: bool = True,
) -> Understood:
    """The network of a file.

    Args:
        reading: how, `{"kind": one of KINDS, ...}` with what the reader of that kind takes: `inputs` and `outputs` of ONNX,
            `activation` of an equilibrium network, `Assumptions` of bare weights. None is what the file says, and nothing assumed beyond the defaults.
        biases: whether the biases of bare weights matter.
        compare: evaluate what was understood of an ONNX graph beside a reference, where one is installed.

    Raises:
        InvalidCertificate: a reading that is not understood.
        SdplipError: as the readers.
    """
    path = Path(path)
    reading = {"kind": kind_of(path)} if reading is None else reading
    kind, rest = reading.get("kind"), {key: value for key, value in reading.items() if key != "kind"}
    if kind == "network" and not rest:
        return Understood(read_network(path), {"kind": "network"})
    if kind == "onnx" and not set(rest) - {"inputs", "outputs"} and all(map(_is_name, rest.values())):
        from sdplip.network.read.onnx import read_onnx

        found = read_onnx(path, inputs=rest.get("inputs"), outputs=rest.get("outputs"), compare=compare)
    elif kind == "equilibrium" and not set(rest) - {"activation"} and all(map(_is_name, rest.values())):
        from sdplip.network.read.equilibrium import read_equilibrium

        found = read_equilibrium(path, rest.get("activation"))
    elif kind == "weights":
        from sdplip.network.read.weights import Assumptions, read_weights_network

        found = read_weights_network(path, Assumptions.from_json(rest), biases=biases)
    else:
        raise InvalidCertificate(
            f"How `{path}` was read is not understood (`kind` is {str(kind)[:40]!r}). Make the certificate anew."
        )
    return Understood(
        found.network, {"kind": kind, **found.reading}, found.sentences, found.left_out, found.checked
    )


def _is_name(value: Any) -> bool:
    return value is None or isinstance(value, str)
