"""A checkpoint of another library certified again: what it claims, and what the kernel proves of the numbers that it holds."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from torch import nn

from sdplip.arithmetic.rounding import up
from sdplip.display import brief
from sdplip.errors import InvalidWeight, SdplipError
from sdplip.importers.architecture import network_of
from sdplip.importers.bronet import bronet_groups
from sdplip.importers.layer import Imported, State
from sdplip.importers.layouts import FREQUENCIES, Groups, grouped, imported, layers_of
from sdplip.importers.parts import ImportedNetwork
from sdplip.importers.reading import state_of
from sdplip.kernel.condition import Certificate
from sdplip.nn.bound import lipschitz
from sdplip.reports.layer import Layer, naming

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
class NetworkProof:
    """A whole network of a published architecture with its proven constants.

    Attributes:
        claimed: what the library promises of everything before the last layer, if that has rows of length 1, else of all.
        body: proven of the same part.
        bound: proven of the whole.
        seconds: of the proofs.
    """

    network: ImportedNetwork
    claimed: float
    body: float
    bound: float
    seconds: float

    __repr__ = brief("claimed", "body", "bound")


@dataclass(frozen=True, eq=False)
class Recertification:
    """What a checkpoint claims, and what is proven.

    Attributes:
        left_out: matrices and kernels that belong to no known layout, each with the reason; neither constant of the layers speaks of
            them.
        network: the whole network, where the file has a published architecture.
        note: why there is none, else "".
    """

    layers: tuple[LayerProof, ...]
    left_out: Mapping[str, str]
    network: NetworkProof | None
    note: str

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
                "T is computed in double precision; the library does it in the precision of its weights."
            )
        if self.network is not None:
            said += self.network.network.assumed
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
                "bound": _number(proof.bound),
                "seconds": proof.seconds,
            }
            for proof in self.layers
        ]
        whole = self.network
        return {
            "claimed": self.claimed,
            "bound": _number(self.bound),
            "layers": rows,
            "whole": None
            if whole is None
            else {
                "claimed": whole.claimed,
                "body": _number(whole.body),
                "bound": _number(whole.bound),
                "input_shape": list(whole.network.input_shape or ()),
                "seconds": whole.seconds,
            },
            "note": self.note,
            "assumed": list(self.assumed),
            "left_out": [{"array": name, "why": why} for name, why in self.left_out.items()],
        }


def recertify(path: str | os.PathLike[str]) -> Recertification:
    """The layers of a checkpoint in a layout of `sdplip.importers.layouts`, each proven with the numbers that run in eval mode, and
    the whole network, where the file has a published architecture (`load_network`).

    Nothing is unpickled. Convolutions are proven for images of every size, unless the file names theirs.

    Raises:
        UnreadableFile: missing, damaged, a pickle, or a format without named arrays.
        InvalidWeight: no layer of a known layout.
    """
    state = state_of(path)
    groups = grouped(state)
    network, why = _whole(state)
    if bronet_groups(groups) is not None:  # its layers are entries of stacked arrays
        if network is None:
            raise InvalidWeight(why)
        layers = network.network.layers
        left = dict.fromkeys(_reflectors(groups), FREQUENCIES)
    else:
        layers, _ = imported(state)
        _, left = layers_of(groups)
    return Recertification(tuple(map(_proven, layers)), left, network, why)


def _reflectors(groups: Groups) -> list[str]:
    """Stacks of convolutions that are orthogonal at each frequency."""
    return [f"{prefix}.weights" for prefix, group in groups.items() if {"weights", "I_low"} <= set(group)]


def _whole(state: State) -> tuple[NetworkProof | None, str]:
    """The network of the file and its constants, or why it has none."""
    try:
        network = network_of(state)
    except InvalidWeight as error:
        return None, str(error)
    begin = time.perf_counter()
    modules = list(network.model.children())
    body = nn.Sequential(*modules[:-1]) if network.normalised else network.model
    try:
        whole = lipschitz(network.model, input_shape=network.input_shape).value
        part = lipschitz(body, input_shape=network.input_shape).value if network.normalised else whole
    except SdplipError as error:
        return None, str(error)
    claimed = prod(layer.claimed for layer in network.layers)
    return NetworkProof(network, claimed, part, whole, time.perf_counter() - begin), ""


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _proven(layer: Imported) -> LayerProof:
    subject = Layer(layer.weight, layer.form)
    begin = time.perf_counter()
    with naming(subject):
        t = np.ones(subject.channels) if layer.t is None else layer.t
        certificate = subject.certify(t, "identity" if layer.t is None else layer.layout, dense=True)
    return LayerProof(layer, certificate, time.perf_counter() - begin)
