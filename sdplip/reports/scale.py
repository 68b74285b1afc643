"""Rescaled weights that are proven as they are stored, and the file that carries them."""

import os
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.kernel.condition import Certificate, Form
from sdplip.reports.layer import Layer, naming
from sdplip.reports.methods import Method
from sdplip.reports.numbers import finite
from sdplip.shapes import short
from sdplip.verifier.layers import save_layers
from sdplip.weights import Weight
from sdplip.writing import write_bytes

ROUNDING_ATTEMPTS = 6
"""How often `t` is enlarged, twice as much each time, so that the rounded array is 1-Lipschitz; two are usual in float32."""


@dataclass(frozen=True, eq=False)
class LayerScale:
    r"""One layer, ready to use.

    Attributes:
        source: the layer as it was.
        stored: what the file will hold: $W T^{-1/2}$ rounded to the type of the weight (linear), the weight itself (residual).
        proposed: certificate of `t` for the weight as it was.
        certificate: of `stored`: with T = I (linear), with `t` (residual).
    """

    source: Layer
    stored: Weight
    proposed: Certificate
    certificate: Certificate
    seconds: float

    __repr__ = short

    @property
    def t(self) -> Float[np.ndarray, " n"]:
        return self.proposed.t

    def to_json(self) -> dict[str, Any]:
        proof = self.certificate
        return {
            "name": self.stored.name,
            "shape": list(self.stored.array.shape),
            "form": self.source.form,
            "scaling": self.proposed.scaling,
            "trace": finite(float(self.t.sum())),
            "c": proof.c,
            "c_lower": proof.c_lower,
            "bound": finite(proof.bound),
            "seconds": self.seconds,
        }


@dataclass(frozen=True, eq=False)
class ScaleReport:
    """The rescaled layers of a file."""

    layers: tuple[LayerScale, ...]

    def to_json(self) -> dict[str, Any]:
        """What `sdplip scale --json` prints of the layers."""
        return {"layers": [layer.to_json() for layer in self.layers]}


def scale(weights: Iterable[Weight], method: Method, *, form: Form = "linear") -> ScaleReport:
    r"""Every weight rescaled by the `t` of `method`, certified with the rounding of its own type.

    In exact arithmetic $W T^{-1/2}$ is 1-Lipschitz where `t` satisfies the condition; rounded to float32 its norm may
    exceed 1 by about 1e-7. So what is certified is the stored array, and a `t` that satisfies the condition is enlarged by
    about as much, until the stored array is proven 1-Lipschitz.

    Raises:
        SdplipError: one of its kinds, with the name of the layer.
    """
    return ScaleReport(tuple(_scale(Layer(weight, form), method) for weight in weights))


def save(report: ScaleReport, path: str | os.PathLike[str]) -> Path:
    """Writes `NAME` and `NAME.t` of every layer into an .npz, and the certificates beside it; each file whole or not at all.

    Returns:
        The path of the certificate file, `scaled.certificate.json` for `scaled.npz`.
    """
    path = Path(path)
    arrays = {layer.stored.name: layer.stored.array for layer in report.layers}
    arrays |= {f"{layer.stored.name}.t": layer.t for layer in report.layers}
    _write_npz(path, arrays)
    beside = certificate_path(path)
    save_layers(
        beside, path, [(layer.stored.name, layer.certificate) for layer in report.layers], transpose=False
    )
    return beside


def certificate_path(path: str | os.PathLike[str]) -> Path:
    """Where `save` puts the certificates of the file `path`."""
    return Path(path).with_suffix(".certificate.json")


def _scale(layer: Layer, method: Method) -> LayerScale:
    method.load(layer)
    begin = time.perf_counter()
    with naming(layer):
        proposed = layer.certify(method.propose(layer), method.name)
        stored, certificate = layer.weight, proposed
        if layer.form == "linear":
            stored, certificate = _stored(layer, proposed)
            for attempt in range(ROUNDING_ATTEMPTS):
                if certificate.c <= 1 or proposed.c > 1:
                    break
                enlarged = proposed.t * (1 + 2 ** (attempt + 1) * (certificate.c - 1))
                proposed = layer.certify(enlarged, method.name)
                stored, certificate = _stored(layer, proposed)
    return LayerScale(layer, stored, proposed, certificate, time.perf_counter() - begin)


def _stored(layer: Layer, proposed: Certificate) -> tuple[Weight, Certificate]:
    """The rescaled weight in the type of its file, and what is proven of that array as it stands."""
    array = layer.rescaled(proposed.t).astype(layer.weight.array.dtype)
    stored = replace(layer.weight, array=array)
    return stored, Layer(stored).certify(np.ones(layer.channels), proposed.scaling)


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """`numpy.savez` for any name (it takes no array called "file"), whole or not at all."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    write_bytes(path, packed.getvalue())
