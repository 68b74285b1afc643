"""A checkpoint of another library certified again: what it claims, and what the kernel proves of the numbers that it holds."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.arithmetic.rounding import up
from sdplip.display import brief
from sdplip.errors import UnreadableFile
from sdplip.importers.layouts import Imported, imported
from sdplip.kernel.condition import Certificate
from sdplip.reports.layer import Layer, naming
from sdplip.weights.read import ARRAYS
from sdplip.weights.sniff import FORMS, sniff

BETWEEN = "What lies between the layers (activations, pooling, padding) is 1-Lipschitz, and each layer is used once, one after the other."


@dataclass(frozen=True, eq=False)
class LayerProof:
    """A layer of a checkpoint with its certificate; `seconds` of the proof."""

    layer: Imported
    certificate: Certificate
    seconds: float

    __repr__ = brief("claimed", "bound")

    @property
    def claimed(self) -> float:
        return self.layer.claimed

    @property
    def bound(self) -> float:
        """Proven."""
        return self.certificate.bound


@dataclass(frozen=True, eq=False)
class Recertification:
    """What a checkpoint claims, and what is proven.

    Attributes:
        left_out: matrices and kernels that belong to no known layer; neither constant speaks of them.
    """

    layers: tuple[LayerProof, ...]
    left_out: tuple[str, ...]

    __repr__ = brief("claimed", "bound")

    @property
    def claimed(self) -> float:
        """Product of what the layers have by construction."""
        value = 1.0
        for proof in self.layers:
            value *= proof.claimed
        return value

    @property
    def bound(self) -> float:
        """Product of what is proven of the layers, rounded up."""
        value = self.layers[0].bound
        for proof in self.layers[1:]:
            value = up(value * proof.bound)
        return value

    @property
    def assumed(self) -> tuple[str, ...]:
        """What the file does not say."""
        said = [sentence for proof in self.layers for sentence in proof.layer.assumed]
        if any(proof.layer.form == "residual" for proof in self.layers):
            said.append(
                "T is computed from q in double precision; the library does it in the precision of its weights."
            )
        return (*dict.fromkeys(said), BETWEEN)

    def to_json(self) -> dict[str, Any]:
        """The keys of `sdplip recertify --json` besides `file`."""
        rows = [
            {
                "name": proof.layer.weight.name,
                "shape": list(proof.layer.weight.array.shape),
                "kind": proof.layer.weight.kind,
                "form": proof.layer.form,
                "layout": proof.layer.layout,
                "claimed": proof.claimed,
                "bound": proof.bound if np.isfinite(proof.bound) else None,
                "seconds": proof.seconds,
            }
            for proof in self.layers
        ]
        return {
            "claimed": self.claimed,
            "bound": self.bound if np.isfinite(self.bound) else None,
            "layers": rows,
            "assumed": list(self.assumed),
            "left_out": [{"array": name, "why": "no known layer has it"} for name in self.left_out],
        }


def recertify(path: str | os.PathLike[str]) -> Recertification:
    """The layers of a checkpoint in a layout of `sdplip.importers.layouts`, each proven with the numbers that run in eval mode.

    Nothing is unpickled. Convolutions are proven for images of every size.

    Raises:
        UnreadableFile: missing, damaged, a pickle, or a format without named arrays.
        InvalidWeight: no layer of a known layout.
    """
    path = Path(path)
    form = sniff(path)
    if form not in ARRAYS or form in ("npy", "nnet", "csv"):
        raise UnreadableFile(
            f"`{path}` is {FORMS[form]}, which holds no state dict. Pass .pt, .pth, .safetensors or .npz."
        )
    layers, left = imported(ARRAYS[form](path))
    return Recertification(tuple(map(_proven, layers)), tuple(left))


def _proven(layer: Imported) -> LayerProof:
    subject = Layer(layer.weight, layer.form)
    begin = time.perf_counter()
    with naming(subject):
        t = np.ones(subject.channels) if layer.t is None else layer.t
        certificate = subject.certify(t, "identity" if layer.t is None else layer.layout, dense=True)
    return LayerProof(layer, certificate, time.perf_counter() - begin)
