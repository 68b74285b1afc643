r"""Claims: what a certificate says of a file, in data and in words, and the check of each with its proof.

Five kinds. A *Lipschitz* claim bounds a network, for all inputs or in a region, all outputs or one or a pair. A *condition*
encloses the least c with $W^\top W \preceq c^2 T$ of one layer. An *accuracy* claim gives, for each image, class and radius. A claim
about *pixels* (`verifier.pixels`) says how many right ones any one change leaves, one about *expansion* (`verifier.expansion`) how far outputs are
apart at least.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sdplip.arithmetic.decimals import above, below, percent_below
from sdplip.errors import InvalidCertificate, InvalidProblem, NotProvable
from sdplip.geometry import Geometry
from sdplip.kernel.accuracy import Arithmetic
from sdplip.kernel.proof import Goal, Norm
from sdplip.kernel.regions import Ball, Box, Cut, Region
from sdplip.network import Dense, Network, followed
from sdplip.shapes import Float, Int
from sdplip.verifier.expansion import ExpansionClaim
from sdplip.verifier.pixels import PixelClaim

Output = tuple[()] | tuple[int] | tuple[int, int]
"""Of which outputs: all, one, or the difference of two."""


@dataclass(frozen=True, eq=False)
class LipschitzClaim:
    r"""$\lVert f(x) - f(y) \rVert \le$ `bound` $\lVert x - y \rVert_2$ for all x, y of the region; `norm`: of the output."""

    bound: float
    output: Output = ()
    norm: Norm = "l2"
    region: Region | None = None

    def goal(self, network: Network) -> Goal:
        """What is to be proven of the network.

        Raises:
            NotProvable: outputs that it does not have, a region of another length.
        """
        if self.region is not None and self.region.inputs != network.inputs:
            raise NotProvable(
                f"The region has {self.region.inputs} coordinates, the network {network.inputs} inputs."
            )
        return Goal(chosen(network, self.output), self.region, self.norm, values=True)

    def words(self) -> str:
        of = {0: "f", 1: "output {}", 2: "output {} minus output {}"}[len(self.output)].format(*self.output)
        where = "for all inputs" if self.region is None else f"for inputs in {region_words(self.region)}"
        norm = "largest entry" if self.norm == "linf" and len(self.output) == 0 else "Euclidean norm"
        return f"{of} is Lipschitz with constant at most {above(self.bound)} ({norm} of the output), {where}"

    def to_json(self) -> dict[str, Any]:
        region = None if self.region is None else region_to_json(self.region)
        return {
            "kind": "lipschitz", "bound": self.bound, "output": list(self.output), "norm": self.norm, "region": region,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class ConditionClaim:
    r"""`c_lower` $\le$ least c with $W^\top W \preceq c^2\,\mathrm{diag}(t)$ $\le$ `c` for the layer called `layer`.

    Attributes:
        form: "linear" or "residual".
        t: the scaling.
        geometry: of a convolution, as `Geometry` has it; None of a matrix.
        transpose: whether the file stores `(in, out)`.
    """

    layer: str
    form: str
    c: float
    c_lower: float
    t: Float[np.ndarray, " n"]
    geometry: Mapping[str, Any] | None = None

    def words(self) -> str:
        how = "" if self.geometry is None else f", as a convolution with {geometry_words(self.geometry)}"
        return (
            f"layer `{self.layer}` in the {self.form} form{how}: {below(self.c_lower)} <= c <= {above(self.c)} for the least c"
            f" with W^T W <= c^2 diag(t), t of length {len(self.t)} from {below(float(self.t.min()))}"
            f" to {above(float(self.t.max()))}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "condition", "layer": self.layer, "form": self.form, "c": self.c, "c_lower": self.c_lower,
            "t": self.t, "geometry": self.geometry,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class AccuracyClaim:
    """Class and radius of each image: nearer than that no other class is predicted.

    Attributes:
        arithmetic: whose prediction: "exact", or any pass in "float32" or "float64".
        index: of each image in its file.
        sha256: of each image as it enters the network (its doubles, little-endian).
        label: of each image in its file.
        prediction: -1 where nothing is claimed.
        radius: l2 distance of inputs.
    """

    arithmetic: Arithmetic
    index: Int[np.ndarray, " n"]
    sha256: tuple[str, ...]
    label: Int[np.ndarray, " n"]
    prediction: Int[np.ndarray, " n"]
    radius: Float[np.ndarray, " n"]

    def accuracy(self, eps: float = 0.0) -> float:
        """Share of images that are predicted right, and certified beyond `eps` where that is positive."""
        right = (self.label == self.prediction) & (self.prediction >= 0)
        return float((right & (self.radius > eps)).mean()) if eps > 0 else float(right.mean())

    def words(self) -> str:
        of = (
            "exact arithmetic"
            if self.arithmetic == "exact"
            else f"a pass in {self.arithmetic}, its rounding included"
        )
        shares = ", ".join(f"{percent_below(self.accuracy(eps))} at {name}" for name, eps in SHOWN.items())
        return (
            f"of {len(self.index)} images {percent_below(self.accuracy())} are predicted right, and certified right at every"
            f" input nearer than a radius: {shares} (prediction of {of})"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "accuracy", "arithmetic": self.arithmetic, "index": self.index, "sha256": list(self.sha256),
            "label": self.label, "prediction": self.prediction, "radius": self.radius,
        }  # fmt: skip


SHOWN = {"36/255": 36 / 255, "72/255": 72 / 255, "108/255": 108 / 255, "1": 1.0}
"""Radii of the literature."""
Claim = LipschitzClaim | ConditionClaim | AccuracyClaim | PixelClaim | ExpansionClaim


def chosen(network: Network, output: Output) -> Network:
    """The network of one output, or of the difference of two, or of all.

    Raises:
        NotProvable: outputs that it does not have.
    """
    if not output:
        return network
    if any(not 0 <= k < network.outputs for k in output) or len(set(output)) != len(output):
        raise NotProvable(
            f"The network has outputs 0 to {network.outputs - 1}, but the claim is about {output}."
        )
    row = np.zeros((1, network.outputs))
    row[0, output[0]] = 1.0
    if len(output) == 2:
        row[0, output[1]] = -1.0
    return followed(network, Dense(row))


def claim_of(body: Mapping[str, Any]) -> Claim:
    """The claim that JSON data state.

    Raises:
        InvalidCertificate: of no kind that is known, fields that are missing or of another type, numbers that are not finite.
    """
    try:
        return _READERS[body["kind"]](body)
    except (KeyError, TypeError, ValueError, OverflowError, InvalidProblem) as error:
        raise InvalidCertificate(
            f"A claim of the certificate is malformed ({type(error).__name__}: {str(error)[:100]}). Make it anew."
        ) from None


def _lipschitz(body: Mapping[str, Any]) -> LipschitzClaim:
    _only(body, "kind", "bound", "output", "norm", "region")
    if body["norm"] not in ("l2", "linf"):
        raise ValueError("`norm` must be l2 or linf")
    output = tuple(_whole(k) for k in body["output"])
    if len(output) > 2:
        raise ValueError("`output` names none, one or two outputs")
    region = None if body["region"] is None else region_of(body["region"])
    return LipschitzClaim(_number(body["bound"]), output, body["norm"], region)  # type: ignore[arg-type]


def _condition(body: Mapping[str, Any]) -> ConditionClaim:
    _only(body, "kind", "layer", "form", "c", "c_lower", "t", "geometry")
    if body["form"] not in ("linear", "residual"):
        raise ValueError("`form` must be linear or residual")
    geometry = None if body["geometry"] is None else _geometry(body["geometry"])
    t = _vector(body["t"])
    return ConditionClaim(
        _text(body["layer"]), body["form"], _number(body["c"]), _number(body["c_lower"]), t, geometry
    )


def _geometry(body: Any) -> dict[str, Any]:
    """Plain numbers of every field; whether they fit a kernel is seen later."""
    _only(body, *(key.name for key in fields(Geometry)))
    numbers = {
        key: tuple(map(_whole, value))
        if isinstance(value, list)
        else value
        if value is None
        else _whole(value)
        for key, value in body.items()
        if key not in ("padding_mode", "groups")
    }
    return {**numbers, "padding_mode": _text(body["padding_mode"]), "groups": _whole(body["groups"], 1)}


def _accuracy(body: Mapping[str, Any]) -> AccuracyClaim:
    _only(body, "kind", "arithmetic", "index", "sha256", "label", "prediction", "radius")
    if body["arithmetic"] not in ("exact", "float32", "float64"):
        raise ValueError("`arithmetic` must be exact, float32 or float64")
    whole = {
        name: np.array([_whole(v, -1) for v in body[name]], np.int64)
        for name in ("index", "label", "prediction")
    }
    sha, radius = tuple(_text(v) for v in body["sha256"]), _vector(body["radius"])
    if len({len(sha), len(radius), *map(len, whole.values())}) != 1 or not len(radius):
        raise ValueError("every image needs index, sha256, label, prediction and radius")
    if (radius < 0).any() or len(set(whole["index"].tolist())) != len(radius):
        raise ValueError("radii must not be negative, and no image may stand twice")
    return AccuracyClaim(body["arithmetic"], whole["index"], sha, whole["label"], whole["prediction"], radius)


def _pixels(body: Mapping[str, Any]) -> PixelClaim:
    _only(body, "kind", "eps", "index", "sha256", "mask", "pixels", "right")
    index, pixels, right = (
        np.array([_whole(v) for v in body[name]], np.int64) for name in ("index", "pixels", "right")
    )
    sha, mask = (tuple(_text(v) for v in body[name]) for name in ("sha256", "mask"))
    if len({*map(len, (index, pixels, right, sha, mask))}) != 1 or len(set(index.tolist())) != len(index):
        raise ValueError("every image needs index, sha256, mask, pixels and right, and none may stand twice")
    if not pixels.sum() or (right > pixels).any():
        raise ValueError("some pixel must count, and no more may be right than count")
    return PixelClaim(_number(body["eps"]), index, sha, mask, pixels, right)


def _expansion(body: Mapping[str, Any]) -> ExpansionClaim:
    _only(body, "kind", "lower")
    return ExpansionClaim(_number(body["lower"]))


_READERS = {
    "lipschitz": _lipschitz, "condition": _condition, "accuracy": _accuracy, "pixels": _pixels, "expansion": _expansion,
}  # fmt: skip


def region_to_json(region: Region) -> dict[str, Any]:
    """Ball and box, whichever there are."""
    if isinstance(region, Cut):
        return {**region_to_json(region.ball), **region_to_json(region.box)}
    if isinstance(region, Ball):
        return {"ball": {"center": np.asarray(region.center, np.float64), "radius": float(region.radius)}}
    return {
        "box": {"lower": np.asarray(region.lower, np.float64), "upper": np.asarray(region.upper, np.float64)}
    }


def region_of(body: Mapping[str, Any]) -> Region:
    """The region of JSON data."""
    if not body or set(body) - {"ball", "box"}:
        raise ValueError("a region has a ball, a box, or both")
    ball = box = None
    if "ball" in body:
        _only(body["ball"], "center", "radius")
        ball = Ball(_vector(body["ball"]["center"]), _number(body["ball"]["radius"]))
    if "box" in body:
        _only(body["box"], "lower", "upper")
        box = Box(_vector(body["box"]["lower"]), _vector(body["box"]["upper"]))
    if ball is not None and box is not None:
        return Cut(ball, box)
    found = ball if ball is not None else box
    assert found is not None
    return found


def region_words(region: Region) -> str:
    """For people: the numbers where they are few or all the same, else their range."""
    if isinstance(region, Cut):
        return f"{region_words(region.ball)} and {region_words(region.box)}"
    if isinstance(region, Ball):
        return f"the ball of radius {float(region.radius)!r} around {_spelled(region.center)}"
    return f"the box from {_spelled(region.lower)} to {_spelled(region.upper)}"


def geometry_words(geometry: Mapping[str, Any]) -> str:
    """For people: everything that a proof of a convolution depends on."""
    padding = geometry.get("padding")
    size = geometry.get("image_size")
    return (
        f"stride {geometry.get('stride')}, padding {'same' if padding is None else padding} ({geometry.get('padding_mode')}),"
        f" dilation {geometry.get('dilation')}, groups {geometry.get('groups')},"
        f" {'images of every size' if size is None else f'images of {size} pixels'}"
    )


def _spelled(values: Float[np.ndarray, " n"]) -> str:
    values = np.asarray(values, np.float64)
    if (values == values[0]).all():
        return f"{float(values[0])!r}" + ("" if len(values) == 1 else f" in all {len(values)} coordinates")
    if len(values) <= 8:
        return f"({', '.join(repr(float(v)) for v in values)})"
    return f"a point of {len(values)} coordinates from {float(values.min())!r} to {float(values.max())!r}"


def _only(body: Mapping[str, Any], *names: str) -> None:
    if not isinstance(body, Mapping) or set(body) != set(names):
        raise ValueError(f"it must have {', '.join(names)} and nothing else")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("a number is needed")
    found = float(value)
    if not (np.isfinite(found) and found >= 0):
        raise ValueError("a number must be finite and not negative")
    return found


def _whole(value: Any, least: int = 0) -> int:
    if type(value) is not int or not least <= value < 2**31:
        raise TypeError("a whole number is needed")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1000 or not value.isprintable():
        raise TypeError("a short printable text is needed")
    return value


def _vector(value: Any) -> Float[np.ndarray, " n"]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value or len(value) > 1 << 24:
        raise TypeError("a list of numbers is needed")
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in value):
        raise TypeError("a list of numbers is needed")
    found = np.array(value, np.float64)
    if not np.isfinite(found).all():
        raise ValueError("numbers must be finite")
    return found
