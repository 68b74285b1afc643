"""Mutants of certificates: by meaning (what a forger would write) and by bytes. Everything is drawn from one generator."""

import copy
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Json = dict[str, Any]
Path = tuple[Any, ...]
Rng = np.random.Generator

RULES = (
    "layers", "norm", "joint", "chain", "composite", "rows", "narrow", "frequency", "banded", "residual", "local", "cut",
    "secants", "margins", "pairs", "pixels", "pairwise", "patterns", "least", "around", "scaling", "", "Layers", "none",
)  # fmt: skip
ACTIVATIONS = (
    "relu", "leaky_relu:0.2", "leaky_relu:0", "leaky_relu:-0.5", "leaky_relu:nan", "leaky_relu:1e-310", "abs", "tanh", "sigmoid",
    "identity", "elu", "softplus", "maxmin", "groupsort:3", "groupsort:1", "groupsort:0", "groupsort:-1", "RELU", "zzz", "",
    "relu:1", "sorted",
)  # fmt: skip
FACTORS = (
    0.0, -1.0, 0.5, 0.9, 0.99, 1 - 1e-3, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12, 1 - 2.0**-53, 1 + 1e-9, 1.1, 2.0, 10.0, 1e-300, 1e153,
    1e300,
)  # fmt: skip
BIG = "<number>"
"""Stands for a number that JSON cannot write from Python: replaced in the text."""
ODD: Sequence[Any] = (
    None, True, False, -1, 0, 1, 2, 7, 10**29, 10**400, -(10**18), 2**63, 1e308, 1e-308, 5e-324, -0.0, 0.5, 16.0, "NaN", "1", "",
    "relu", "\ud800", "\x00", "l2", [], {}, [[]], [0] * 1000, [[0, 1], [1, 2]], {"a": 1}, [None], BIG + "1e999", BIG + "-1e999",
    BIG + "NaN", BIG + "Infinity", BIG + "1e-400", BIG + "9" * 5000, BIG + "[" * 90 + "]" * 90, "x" * 2000,
)  # fmt: skip


def paths(value: Any, at: Path = ()) -> list[tuple[Path, Any]]:
    """Every place of a document, and what stands there."""
    found = [(at, value)] if at else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += paths(item, (*at, key))
    return found


def put(document: Any, at: Path, value: Any) -> None:
    """Replaces what stands at a place."""
    for key in at[:-1]:
        document = document[key]
    document[at[-1]] = value


def get(document: Any, at: Path) -> Any:
    for key in at:
        document = document[key]
    return document


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def choice(rng: Rng, values: Sequence[Any]) -> Any:
    return values[int(rng.integers(len(values)))]


def _scaled(rng: Rng, value: float) -> Any:
    if rng.random() < 0.15:
        return float(np.nextafter(value, -np.inf if rng.random() < 0.5 else np.inf))
    if isinstance(value, int) and rng.random() < 0.7:
        return value + int(rng.integers(-2, 3))
    with np.errstate(all="ignore"):
        found = float(np.float64(value) * choice(rng, FACTORS))
    return found if np.isfinite(found) else 1e308


def anything(document: Json, rng: Rng, others: Sequence[Json]) -> None:
    """An odd value, another number, a removal, an exchange or a copy at any place."""
    places = paths(document)
    at, value = choice(rng, places)
    how = int(rng.integers(8))
    if how == 0:
        put(document, at, copy.deepcopy(choice(rng, ODD)))
    elif how <= 2 and is_number(value):
        put(document, at, _scaled(rng, value))
    elif how == 3:
        parent = get(document, at[:-1])
        parent.pop(at[-1])
    elif how == 4:
        put(document, at, copy.deepcopy(choice(rng, places)[1]))
    elif how == 5:
        put(document, at, copy.deepcopy(choice(rng, paths(choice(rng, others)))[1]))
    elif how == 6 and isinstance(value, list) and value:
        a, b = rng.integers(len(value), size=2)
        value[a], value[b] = value[b], value[a]
        if rng.random() < 0.3:
            value.append(copy.deepcopy(value[0]))
    elif isinstance(value, dict) and value:
        key = choice(rng, list(value))
        value[choice(rng, ("rule", "data", "parts", "c", "kappa", "x", key.upper()))] = value.pop(key)
    elif is_number(value):
        put(document, at, choice(rng, ([value], str(value), bool(value), -value, [[value]])))


def smaller(document: Json, rng: Rng, others: Sequence[Json]) -> None:  # noqa: ARG001
    """A claim of more: a smaller bound, a larger radius, sides nearer to each other."""
    claim = choice(rng, document["claims"])["claim"]
    factor = choice(rng, (0.0, 0.5, 0.9, 1 - 1e-3, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12, 1 - 2.0**-52))
    if claim["kind"] == "lipschitz":
        claim["bound"] *= factor
    elif claim["kind"] == "condition":
        if rng.random() < 0.5:
            claim["c"] *= factor
        else:
            claim["c_lower"] *= 2 - factor
    elif claim["kind"] == "accuracy":
        k = int(rng.integers(len(claim["radius"])))
        if rng.random() < 0.7:
            claim["radius"][k] = claim["radius"][k] * (2 - factor) + choice(rng, (0.0, 1e-9, 0.1))
        else:
            claim["prediction"][k] = claim["label"][k]
    elif claim["kind"] == "expansion":
        claim["lower"] = claim["lower"] * (2 - factor) + choice(rng, (0.0, 1e-9, 0.1))
    elif claim["kind"] == "pixels":
        k = int(rng.integers(len(claim["right"])))
        how = int(rng.integers(3))
        if how == 0:
            claim["right"][k] = min(claim["right"][k] + int(rng.integers(1, 3)), claim["pixels"][k])
        elif how == 1:
            claim["eps"] = claim["eps"] * (2 - factor) + choice(rng, (0.0, 1e-9, 0.1, 1.0))
        else:
            claim["pixels"][k] -= 1
            claim["right"][k] = min(claim["right"][k], claim["pixels"][k])


def _reading(document: Json, rng: Rng, _others: Sequence[Json]) -> None:
    """Another way to read the file."""
    reading = document["file"]["reading"]
    names = sorted(
        {
            "fc1.weight",
            "fc2.weight",
            "fc3.weight",
            "W1",
            "W2",
            "W3",
            "conv1.weight",
            "conv2.weight",
            "fc.weight",
            "K",
        }
    )
    how = int(rng.integers(12))
    if how <= 1:
        reading["activation"] = choice(rng, ACTIVATIONS)
    elif how == 2:
        reading["slopes"] = choice(
            rng, ([0, 0], [0, 0.1], [-1, 1], [1, 0], [0.5, 0.5], [0.0, 5e-324], [-0.0, 1], [0, 1, 2])
        )
    elif how == 3:
        reading["transpose"] = choice(rng, (True, False, None, 1))
    elif how == 4:
        k = int(rng.integers(1, 4))
        reading["layers"] = [choice(rng, names) for _ in range(k)]
    elif how == 5:
        own = reading.get("layers") or names[:3]
        reading["layers"] = list(rng.permutation(own))
    elif how == 6:
        reading["ignore"] = [choice(rng, [*names, "fc1.bias", "fc2.bias", "b1", "conv1.bias"])]
    elif how == 7:
        reading["image_size"] = choice(rng, (1, 2, 3, 5, 6, 7, 12, [6], [6, 6], 0, 2**31 - 1, [6, 1]))
    elif how == 8:
        moves = {
            "stride": choice(rng, (1, 2, 3, [2], 0, 7)), "padding": choice(rng, (0, 1, 2, [1], 2**30)),
            "padding_mode": choice(rng, ("zeros", "circular", "reflect", "")), "dilation": choice(rng, (1, 2, 3, 0)),
            "groups": choice(rng, (1, 2, 0)), "max_pool": 2, "average_pool": 2,
        }  # fmt: skip
        key = choice(rng, list(moves))
        where = choice(rng, ("", "conv1.weight", "conv2.weight", "zzz"))
        reading.setdefault("geometry", {}).setdefault(where, {})[key] = moves[key]
    elif how == 9:
        reading[choice(rng, ("flatten", "average"))] = choice(rng, ("chw", "hwc", "whc", True, False))
    elif how == 10:
        reading["kind"] = choice(rng, ("weights", "onnx", "network", "layers", "zzz", 3))
    else:
        reading["outputs"] = choice(rng, ("y", "block", "first", "c", "x", "wr", 3))


def _claim(document: Json, rng: Rng, others: Sequence[Json]) -> None:
    """Another output, norm, region, layer, geometry, arithmetic, image."""
    claim = choice(rng, document["claims"])["claim"]
    kind = claim.get("kind")
    if kind == "lipschitz":
        if rng.random() < 0.35:
            claim["output"] = choice(
                rng, ([], [0], [1], [2], [0, 1], [1, 0], [0, 0], [5], [0, 1, 2], [-1], [0, 5])
            )
        elif rng.random() < 0.2:
            claim["norm"] = choice(rng, ("l2", "linf", "l1"))
        else:
            _region(claim, rng)
    elif kind == "condition":
        _layer(claim, rng, others)
    elif kind == "pixels":
        _masked(claim, rng)
    elif kind == "expansion":
        claim["lower"] = choice(rng, (0, 1.0, 1e300, -1.0, True, None, "1", 5e-324))
    elif kind == "accuracy":
        how, n = int(rng.integers(6)), len(claim["index"])
        k, j = rng.integers(n, size=2)
        if how == 0:
            claim["arithmetic"] = choice(rng, ("exact", "float32", "float64", "float16"))
        elif how == 1:
            for name in ("index", "sha256", "label", "prediction", "radius"):
                claim[name].pop(int(k))
        elif how == 2:
            name = choice(rng, ("index", "sha256", "label", "prediction", "radius"))
            claim[name][k], claim[name][j] = claim[name][j], claim[name][k]
        elif how == 3:
            claim[choice(rng, ("label", "prediction", "index"))][k] = choice(
                rng, (-1, 0, 1, 2, 3, 100, 2**31, True)
            )
        elif how == 4:
            for name in ("index", "sha256", "label", "prediction", "radius"):
                claim[name][k] = claim[name][j]
        else:
            claim["radius"][k] = choice(rng, (0.0, 1e-3, 0.1, 1.0, 1e6, 1e300))


def _masked(claim: Json, rng: Rng) -> None:
    """Other images, masks, counts, lengths."""
    names, k, j = ("index", "sha256", "mask", "pixels", "right"), *rng.integers(len(claim["index"]), size=2)
    how = int(rng.integers(5))
    if how == 0:
        for name in names:
            claim[name].pop(int(k))
    elif how == 1:
        name = choice(rng, names)
        claim[name][k], claim[name][j] = claim[name][j], claim[name][k]
    elif how == 2:
        claim[choice(rng, ("index", "pixels", "right"))][k] = choice(rng, (-1, 0, 1, 2, 9, 100, 2**31, True))
    elif how == 3:
        for name in names:
            claim[name][k] = claim[name][j]
    else:
        claim["eps"] = choice(rng, (0.0, 5e-324, 1e-3, 0.1, 1.0, 1e6, 1e200, 1e308))


def _region(claim: Json, rng: Rng) -> None:
    region = claim["region"]
    n = len(region["ball"]["center"] if "ball" in (region or {}) else region["box"]["lower"]) if region else int(
        choice(rng, (2, 2, 6, 4, 3))
    )  # fmt: skip
    how = int(rng.integers(7))
    if how == 0:
        claim["region"] = None
    elif how == 1:
        center = (
            np.clip(rng.normal(size=n), -1, 1) * choice(rng, (0.0, 0.3, 1.0, 1e3, 1e154, 1e308))
        ).tolist()
        radius = float(choice(rng, (0.0, 5e-324, 1e-12, 0.1, 0.5, 2.0, 1e3, 1e200, 1e308)))
        claim["region"] = {"ball": {"center": center, "radius": radius}}
    elif how == 2:
        low = rng.normal(size=n) * choice(rng, (0.3, 1.0, 1e200))
        claim["region"] = {
            "box": {"lower": low.tolist(), "upper": (low + choice(rng, (0.0, 0.1, 1.0, 3.0))).tolist()}
        }
    elif region and how == 3 and "ball" in region:
        region["ball"]["radius"] *= choice(rng, (0.0, 0.1, 0.5, 0.999, 1.001, 1.5, 3.0, 10.0))
    elif region and how == 4 and "ball" in region:
        k = int(rng.integers(n))
        region["ball"]["center"][k] += choice(rng, (-1.0, -0.1, 1e-9, 0.1, 1.0, 1e9))
    elif region and "box" in region:
        side, k = choice(rng, ("lower", "upper")), int(rng.integers(n))
        region["box"][side][k] += choice(rng, (-1.0, -0.3, -0.01, 0.01, 0.3, 1.0))
        if how == 5 and rng.random() < 0.3:
            region["box"]["lower"], region["box"]["upper"] = region["box"]["upper"], region["box"]["lower"]
    elif region:
        c = np.array(region["ball"]["center"])
        region["box"] = {
            "lower": (c - rng.uniform(0, 1, n)).tolist(),
            "upper": (c + rng.uniform(0, 1, n)).tolist(),
        }


def _layer(claim: Json, rng: Rng, others: Sequence[Json]) -> None:
    how = int(rng.integers(7))
    if how == 0:
        names = [
            e["claim"]["layer"] for d in others for e in d["claims"] if e["claim"].get("kind") == "condition"
        ]
        claim["layer"] = choice(rng, [*names, "zzz", ""])
    elif how == 1:
        claim["form"] = "residual" if claim["form"] == "linear" else "linear"
    elif how == 2:
        factor = choice(rng, (0.5, 0.999, 1.001, 4.0, 1e-300, 1e150, 0.0, -1.0))
        if rng.random() < 0.5:
            claim["t"] = [v * factor for v in claim["t"]]
        else:
            claim["t"][int(rng.integers(len(claim["t"])))] *= factor
    elif how == 3:
        claim["t"] = choice(
            rng, (claim["t"][:-1], [*claim["t"], 1.0], [1e308] * len(claim["t"]), [5e-324] * len(claim["t"]))
        )
    elif claim["geometry"] is not None:
        values = {
            "stride": (1, 2, 3, [2], [1, 2], 0, -1, True, 2.0), "padding": (None, 0, 1, 2, [1], [0, 1], -1, 10**9),
            "padding_mode": ("zeros", "circular", "reflect", 3), "dilation": (1, 2, 3, 0, [2]), "groups": (1, 2, 4, 0, True),
            "image_size": (None, [1], [2], [4], [6], [7], [4, 5], [1000], [2**31], 6, [0], [24]),
        }  # fmt: skip
        key = choice(rng, list(values))
        claim["geometry"][key] = choice(rng, values[key])
    else:
        claim["geometry"] = choice(rng, others)["claims"][0]["claim"].get("geometry")


def proofs(document: Json) -> list[Json]:
    """Every proof of a document and every part of it."""

    def parts(proof: Any) -> list[Json]:
        if not isinstance(proof, dict):
            return []
        return [proof, *(deep for part in proof.get("parts", []) for deep in parts(part))]

    return [deep for entry in document["claims"] for deep in parts(entry.get("proof"))]


def _proof(document: Json, rng: Rng, others: Sequence[Json]) -> None:
    """Other rules, data, parts; a proof of something else; rules around rules."""
    every = proofs(document)
    proof = choice(rng, every)
    data = proof.setdefault("data", {})
    how = int(rng.integers(9))
    if proof["rule"] == "patterns" and rng.random() < 0.5:
        _tree(data, rng)
    elif how == 0:
        proof["rule"] = choice(rng, RULES)
    elif how == 1:
        other = copy.deepcopy(choice(rng, proofs(choice(rng, others)) + every))
        proof.clear()
        proof.update(other)
    elif how == 2:
        numbers = [(at, v) for at, v in paths(data) if is_number(v)]
        if numbers:
            at, v = choice(rng, numbers)
            put(data, at, _scaled(rng, v))
    elif how == 3:
        factor = choice(rng, FACTORS)
        for at, v in paths(data):
            if is_number(v) and not isinstance(v, int):
                put(data, at, float(np.clip(v * factor, -1e308, 1e308)))
    elif how == 4:
        _more(proof, rng)
    elif how == 5 and proof.get("parts"):
        parts = proof["parts"]
        k = int(rng.integers(len(parts)))
        choice(
            rng,
            (
                parts.pop,
                lambda i: parts.append(copy.deepcopy(parts[i])),
                lambda i: parts.insert(0, parts.pop(i)),
            ),
        )(k)
    elif how == 6:
        inner = copy.deepcopy(proof)
        proof.clear()
        proof.update(_around(inner, rng))
    elif how == 7:
        for key in list(data):
            if rng.random() < 0.5:
                data.pop(key)
    else:
        a, b = choice(rng, every), choice(rng, every)
        a["data"], b["data"] = copy.deepcopy(b.get("data", {})), copy.deepcopy(a.get("data", {}))


def _tree(data: Json, rng: Rng) -> None:
    """Another tree of patterns: a leaf said to be empty or not, another hinge, a branch cut off; other rows against a leaf."""
    fork, rows, how = data["fork"], data["rows"], int(rng.integers(6))
    k = int(rng.integers(len(fork)))
    if how == 0:
        fork[k] = int(choice(rng, (-2, -1, 0, 1, 2)))
    elif how == 1:
        fork[:] = [int(choice(rng, (-1, -2)))]
        data["multipliers"], data["count"], data["base"], data["rows"], data["weights"] = [], [], [], [], []
    elif how == 2 and rows:
        rows[int(rng.integers(len(rows)))] = int(rng.integers(40))
    elif how == 3 and data["base"]:
        data["base"][int(rng.integers(len(data["base"])))] = int(rng.integers(4))
    elif how == 4 and fork[k] == -1:
        fork[k] = -2
        data["count"].append(1)
        data["base"].append(0)
        rows.append(int(rng.integers(8)))
        if data["weights"]:
            data["weights"].append(1.0)
    else:
        data["kappa"] *= choice(rng, FACTORS)


def _more(proof: Json, rng: Rng) -> None:
    """Data of the rule that the honest proof need not have."""
    data = proof["data"]
    extra: Sequence[tuple[str, Sequence[Any]]] = (
        ("widen", (0.0, 0.5, -0.5, 1e300, 1e-310)), ("merged", (True, False, 1)), ("every_size", (True, False)),
        ("grid", (None, [1], [2], [3], [6], [8], [64], [16384], [2**20], [4, 4], [128, 128])),
        ("spans", ([], [[0, 1]], [[0, 5]], [[0, 2], [2, 5]], [[1, 3]], [[0, 1], [0, 1]], [[-1, 2]], [[0, 10**30]])),
        ("c", (0.0, 1.0, 1e-310, 1e300)), ("kappa", (0.0, 1.0, 1e-310, 1e300)), ("cut", (0, 1, 2, 3, 4, 5, -1, 1.0)),
        ("head", (1, 2, 3, 4, 5)), ("R", ([[1.0]], [[0.0]], [[1.0, 0.0], [0.0, 1.0]])), ("behind", (0, 1, 2, 4, 5)),
        ("outputs", ([], [0], [1], [0, 1], [1, 1])), ("axis", ([-1], [-2], [0, -1, -1], [0, -2, -1], [1, -1, -2])),
        ("at", ([0.0], [0.3, 0, 0], [0, 0, 0])), ("frequency", (None, [0, 0], [0, 1], [0, 3], [1, 0], [0, 0, 0], [0, 16.0])),
        ("multipliers", ([], [1.0], [1e300], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [0.0] * 6, [1.0] * 6)),
        ("witness", ([1.0], [9e153, 9e153], [[0, 1], [0, 0]], [0.0, 0.0], [1e-310, 1.0], [[[1e153] * 6] * 2], [1] * 4)),
        ("images", ([], ["x"])), ("radius", ([1.0], [1e300])), ("pairs", ([], [[0, 1]])),
    )  # fmt: skip
    name, values = choice(rng, extra)
    data[name] = copy.deepcopy(choice(rng, values))


def _around(inner: Json, rng: Rng) -> Json:
    """A rule around a proof."""
    options: Sequence[Callable[[], Json]] = (
        lambda: {"rule": "local", "parts": [inner]},
        lambda: {"rule": "narrow", "parts": [inner]},
        lambda: {"rule": "secants", "parts": [inner]},
        lambda: {"rule": "layers", "data": {"spans": [[0, int(rng.integers(1, 6))]]}, "parts": [inner]},
        lambda: {"rule": "rows", "data": {"behind": int(rng.integers(6)), "outputs": []}, "parts": [inner]},
        lambda: {"rule": "rows", "data": {"outputs": [0]}, "parts": [inner]},
        lambda: {"rule": "cut", "data": {"axis": [-1], "at": [0.0]}, "parts": [inner]},
        lambda: {
            "rule": "cut",
            "data": {"axis": [0, -1, -1], "at": [0.3, 0, 0]},
            "parts": [inner, copy.deepcopy(inner)],
        },
        lambda: {"rule": "cut", "data": {"axis": [0, -1, -2], "at": [0.3, 0, 0]}, "parts": [inner]},
        lambda: {"rule": "least", "parts": [inner, copy.deepcopy(inner)]},
        lambda: {"rule": "margins", "data": {"cut": int(rng.integers(6))}, "parts": [inner]},
        lambda: {"rule": "pixels", "data": {"cut": int(rng.integers(6))}, "parts": [inner]},
    )
    found = choice(rng, options)()
    for _ in range(int(choice(rng, (0, 0, 0, 1, 3, 70)))):
        found = {"rule": choice(rng, ("narrow", "local", "least")), "parts": [found]}
    return found


def _exchanged(document: Json, rng: Rng, others: Sequence[Json]) -> None:
    """Claims and proofs of other claims and other certificates."""
    own, other = document["claims"], choice(rng, others)["claims"]
    entry, foreign = choice(rng, own), copy.deepcopy(choice(rng, [*own, *other]))
    how = int(rng.integers(4))
    if how == 0:
        entry["proof"] = foreign["proof"]
    elif how == 1:
        entry["claim"] = foreign["claim"]
    elif how == 2:
        own.append(foreign)
    else:
        own.pop(int(rng.integers(len(own))))


MEANINGS = {
    "any place": anything, "claims more": smaller, "reading": _reading, "claim": _claim, "proof": _proof, "exchange": _exchanged,
}  # fmt: skip
WEIGHTS = np.array([0.2, 0.15, 0.15, 0.18, 0.25, 0.07])


def by_meaning(document: Json, rng: Rng, others: Sequence[Json]) -> tuple[str, str]:
    """A mutant of one to three changes: the name of the first, and the text."""
    document, names = copy.deepcopy(document), []
    for _ in range(int(choice(rng, (1, 1, 1, 2, 3)))):
        names.append(tuple(MEANINGS)[int(rng.choice(len(MEANINGS), p=WEIGHTS))])
        try:
            MEANINGS[names[-1]](document, rng, others)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
            continue  # an earlier change has taken away what this one changes
    return names[0], written(document)


def written(document: Any) -> str:
    """The text of a document; numbers that Python does not write are spelled out."""
    text = json.dumps(document)
    return re.sub(rf'"{BIG}([^"]*)"', r"\1", text)


TOKENS = (
    b"0",
    b"9",
    b"-",
    b".",
    b"e",
    b"e9",
    b",",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"null",
    b"true",
    b"NaN",
    b"1e999",
    b"\xff",
    b"\\",
)


def by_bytes(text: str, rng: Rng, others: Sequence[str]) -> bytes:
    """A mutant of a few changes of bytes: a digit, a flip, a removal, a repetition, a token, a piece of another certificate."""
    found = bytearray(text.encode())
    for _ in range(int(choice(rng, (1, 1, 1, 2, 4)))):
        if not found:
            break
        a = int(rng.integers(len(found)))
        b = min(len(found), a + int(choice(rng, (1, 1, 2, 5, 20, 200))))
        how = int(rng.integers(7))
        if how <= 1:
            digits = [i for i in range(a, min(a + 200, len(found))) if 48 <= found[i] <= 57]
            if digits:
                found[choice(rng, digits)] = 48 + int(rng.integers(10))
        elif how == 2:
            found[a] ^= 1 << int(rng.integers(8))
        elif how == 3:
            del found[a:b]
        elif how == 4:
            found[a:a] = found[a:b]
        elif how == 5:
            found[a:a] = choice(rng, TOKENS)
        else:
            other = choice(rng, others).encode()
            c = int(rng.integers(len(other)))
            found[a:b] = other[c : c + b - a]
    return bytes(found)
