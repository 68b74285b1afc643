"""Results as fragments of HTML, one function a result: a sentence, a table, a small figure, a tree that folds.

Proven numbers are rounded outward, and what is not proven is called so.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdplip.arithmetic.decimals import above, below, percent_above, percent_below
from sdplip.html.charts import bars, spark
from sdplip.html.curves import certified_chart, spectra_chart, training_charts
from sdplip.html.elements import Inside, Node, facts, fold, joined, paragraph, table, tag
from sdplip.html.pictures import picture
from sdplip.html.trees import bound_nodes, proof_tree

if TYPE_CHECKING:
    from sdplip.bounds import NetworkBound
    from sdplip.kernel.condition import Certificate
    from sdplip.nn.bounds.tree import Bound
    from sdplip.reports import CheckReport, CompareReport, LayerComparison
    from sdplip.robustness.certification import Certification
    from sdplip.robustness.curve import Curve
    from sdplip.robustness.run import CertifiedRun
    from sdplip.solvers import Interval, Solution
    from sdplip.training import RunSummary
    from sdplip.training.data import DataSet
    from sdplip.training.trials import Sweep
    from sdplip.verifier.verify import Verification

RADII = ("36/255", "72/255", "108/255", "1")
DIGITS = 9


def certificate(found: "Certificate") -> Node:
    """What was proven of one layer."""
    t = np.asarray(found.t)
    return joined(
        "",
        _head(f"W^T W <= c^2 diag(t) is proven for c = {above(found.c, DIGITS)}"),
        facts(
            [
                ("interval of the least c", interval(found.c_lower, found.c)),
                ("Lipschitz bound of the layer", above(found.bound, DIGITS)),
                ("verdict", verdict(found.verdict().value)),
                ("form", found.form),
                ("t proposed by", found.scaling),
                ("t", spread(t)),
                ("geometry", None if found.geometry is None else str(found.geometry)),
            ]
        ),
        spark(t.tolist(), "entries of t, largest first"),
    )


def network_bound(found: "NetworkBound") -> Node:
    """A proven bound with the methods that were tried, and the tree of its proof."""
    rows = sorted(found.others.items(), key=lambda row: row[1])
    drawn = [(name, value, above(value, 6)) for name, value in rows]
    strong = next((k for k, (name, _) in enumerate(rows) if name == found.method), None)
    return joined(
        "",
        _head(f"Lipschitz constant at most {above(found.bound, DIGITS)}: proven ({found.method})"),
        facts(
            [
                (_lower_side(found), below(found.lower, DIGITS) if found.lower else "none"),
                ("norm of the output", "largest entry" if found.goal.norm == "linf" else "Euclidean"),
                ("inputs", "all" if found.goal.region is None else "a region"),
                ("hidden neurons", str(found.order)),
                ("seconds", f"{found.seconds:.2g}"),
                ("note", found.note),
            ]
        ),
        bars(drawn, strong, found.lower or None, f"dashed: {_lower_side(found)}") if drawn else None,
        fold("Tree of the proof", proof_tree(found.proof)),
    )  # fmt: skip


def _lower_side(found: "NetworkBound") -> str:
    """What `lower` is."""
    return (
        "no constant below will do (proven)" if found.lower_proven else "largest Jacobian found (not proven)"
    )


def bound_tree(found: "Bound") -> Node:
    """The bound of a module with its reasons, as a tree that folds."""
    return joined(
        "",
        _head(f"Lipschitz constant at most {above(found.value, DIGITS)}: proven"),
        bound_nodes(found),
    )


def solution(found: "Solution") -> Node:
    """What a solver proposes."""
    t = np.asarray(found.t)
    return joined(
        "",
        _head(f"Proposed by {found.solver}: objective {found.objective:.9g}. Not proven: `sdplip.solvers.prove` says what it is worth."),
        facts(
            [
                ("status", found.status.value),
                ("dual value", None if found.lower is None else f"{found.lower:.9g}"),
                ("iterations", str(found.iterations)),
                ("seconds", f"{found.seconds:.2g}"),
                ("t", spread(t)),
            ]
        ),
        spark(t.tolist(), "entries of t, largest first"),
    )  # fmt: skip


def interval_of(found: "Interval") -> Node:
    """An optimum between two proven ends."""
    t = None if found.t is None else np.asarray(found.t)
    return joined(
        "",
        _head(f"The optimum lies in {interval(found.lower, found.upper)}: both ends are proven"),
        facts([("relative width", above(found.gap, 2)), ("t", None if t is None else spread(t))]),
        None if t is None else spark(t.tolist(), "entries of t, largest first"),
    )


def certification(found: "Certification") -> Node:
    """Certified accuracy, its curve and the tree of the bound."""
    from sdplip.robustness.curve import curve_of_certification

    whose = "as it computes" if found.scope == "computed" else "in exact arithmetic"
    rounding = "rounding subtracted, proven" if found.rounding == "proven" else "rounding not subtracted"
    drawn = curve_of_certification("certified", found)
    return joined(
        "",
        _head(f"{found.n} images: {percent_below(found.clean)} right, mean certified radius {below(found.mean_radius, 5)}"),
        radii_table(drawn),
        certified_chart(drawn),
        facts(
            [
                ("certified", f"the network {whose}, {found.precision}, {rounding}"),
                ("largest constant of a margin", above(found.margin_constant, DIGITS)),
                ("seconds", f"{found.seconds:.2g}"),
            ]
        ),
        fold("Tree of the Lipschitz bound", bound_nodes(found.bound)),
    )  # fmt: skip


def curve(found: "Curve") -> Node:
    """A curve with its table."""
    radius = below(found.mean_radius, 5) if math.isfinite(found.mean_radius) else "infinite"
    return joined(
        "",
        _head(f"{found.name}: {found.n} images, {percent_below(found.clean)} right, mean certified radius {radius}"),
        radii_table(found),
        certified_chart(found),
    )  # fmt: skip


def certified_run(found: "CertifiedRun") -> Node:
    """The curve of a run."""
    return curve(found.curve)


def radii_table(found: "Curve", word: str = "certified") -> Node:
    """Accuracy at the radii of the literature and those that were attacked."""
    attacked = {point.eps: point.accuracy for point in found.attacks}
    rows: list[list[Inside]] = [["0 (clean)", percent_below(found.clean), ""]]
    for eps in RADII:
        left = next((a for r, a in attacked.items() if math.isclose(r, eval_radius(eps))), None)
        rows.append([eps, percent_below(found.at(eps)), "" if left is None else percent_above(left)])
    titles = ["radius", word] + (["left by attack"] if attacked else [])
    return table(titles, [row[: len(titles)] for row in rows])


def eval_radius(words: str) -> float:
    """The double of "36/255"."""
    from fractions import Fraction

    return float(Fraction(words))


def check_report(found: "CheckReport") -> Node:
    """One row a layer."""
    rows = [
        [
            one.layer.name,
            " × ".join(map(str, one.layer.weight.array.shape)),
            verdict(one.verdict.value),
            interval(one.certificate.c_lower, one.certificate.c),
            above(one.certificate.bound, DIGITS),
        ]
        for one in found.layers
    ]
    titles = ["layer", "shape", "W^T W <= T", "interval of the least c", "Lipschitz bound"]
    return joined("", _head(f"{len(rows)} layers: {found.verdict.value}"), table(titles, rows, left=3))


def compare_report(found: "CompareReport") -> Node:
    """Every layer: what each scaling costs beside the proven optimum, and the singular values that it leaves."""
    if len(found.layers) == 1:
        return joined("", comparison(found.layers[0], found.objective.value))
    return joined("", *(fold(one.layer.name, comparison(one, found.objective.value), opened=k == 0) for k, one in enumerate(found.layers)))  # fmt: skip


def comparison(layer: "LayerComparison", objective: str) -> Node:
    """One layer of it."""
    best = layer.best.optimum
    quantity = "trace of T" if objective == "min_trace" else "geometric mean of T"
    gap = None if best is None or best.gap is None else above(best.gap, 2)
    proven = (
        ""
        if gap is None
        else f" Proven: no T beats the {quantity} of {layer.best.name} by more than {gap} of it."
    )
    rows = [
        [row.name, f"{row.trace:.6g}", f"{layer.ratio(row):.4g}", above(row.certificate.c, 7), f"{row.spectrum.mean:.4f}", f"{row.spectrum.least:.4f}"]
        for row in layer.rows
    ]  # fmt: skip
    costs = [(row.name, layer.ratio(row), f"{layer.ratio(row):.4g} ×") for row in layer.rows]
    shape = " × ".join(map(str, layer.layer.weight.array.shape))
    return tag(
        "div",
        paragraph(f"{layer.layer.name}, {shape}: {quantity} relative to the optimum.{proven}"),
        joined("figures", bars(costs, len(costs) - 1, 1.0, "dashed: the optimum"), spectra_chart(layer)),
        table(["scaling", "trace", "× best", "proven c", "mean s.v.", "least s.v."], rows),
        class_="card",
    )


def data_set(found: "DataSet") -> Node:
    """Sizes of the splits, and the first images."""
    held = found.validation
    rows = [
        [name, str(len(split)), " × ".join(map(str, split.shape))]
        for name, split in (("train", found.train), ("validation", held), ("test", found.test))
        if split is not None
    ]
    first = found.train[:10]
    images = first.images.cpu().numpy()
    strip = [
        tag(
            "div",
            picture(image, found.classes[int(y)]),
            tag("span", found.classes[int(y)][:12], class_="soft"),
        )
        for image, y in zip(images, first.labels.tolist(), strict=True)
    ]
    return joined(
        "",
        _head(f"{found.name}: {len(found.classes)} classes"),
        table(["split", "images", "shape"], rows),
        joined("strip", *strip),
    )


def run_summary(found: "RunSummary") -> Node:
    """What a run did, what is proven of it, and its training curves."""
    from sdplip.training.metrics import read_lines

    proven = None
    if found.proven_clean is not None and found.proven_certified is not None:
        proven = f"{percent_below(found.proven_clean)} right, {percent_below(found.proven_certified)} certified at {found.eps:.4g}"
    return joined(
        "",
        _head(f"{found.folder}: {found.steps} steps, {found.epochs:.3g} epochs" + ("" if found.finished else ", not finished")),
        facts(
            [
                ("proven, on the validation split", proven or f"nothing: {found.unproven}"),
                ("Lipschitz bound, proven", None if found.bound is None else above(found.bound, DIGITS)),
                ("weights of step", str(found.selected)),
                ("seconds", f"{found.seconds:.3g} ({found.images_per_second:.0f} images/s)"),
            ]
        ),
        joined("figures", *training_charts(read_lines(Path(found.folder)))),
    )  # fmt: skip


def sweep(found: "Sweep") -> Node:
    """Every combination of values, and the final runs on the test set."""
    rows = [
        [
            trial.name + (" (chosen)" if trial == found.chosen else ""),
            *("" if x is None else percent_below(x) for x in (trial.clean, trial.certified)),
            "front" if trial.front else trial.why,
        ]
        for trial in found.trials
    ]
    finals = [
        [
            str(one.seed),
            percent_below(one.clean),
            *map(percent_below, one.certified.values()),
            below(one.mean_radius, DIGITS),
        ]
        for one in found.finals
    ]
    radii = [] if not found.finals else [f"> {eps}" for eps in found.finals[0].certified]
    return joined(
        "",
        _head(f"{found.folder}: {len(found.trials)} runs" + ("" if found.finished else ", not finished")),
        table(["validation split, proven", "clean", f"> {found.eps:.4g}", ""], rows),
        table(["test set, seed", "clean", *radii, "mean radius"], finals) if finals else None,
    )


def verification(found: "Verification") -> Node:
    """Every claim, and what became of it."""
    rows = [
        [verdict("proven again" if one.proven else "NOT PROVEN"), one.words, one.reason]
        for one in found.claims
    ]
    return joined(
        "",
        _head(
            f"{found.certificate} for {found.file}: {'all proven again' if found.proven else 'not proven'}"
        ),
        paragraph(found.reason) if found.reason else None,
        *(paragraph(sentence, class_="soft") for sentence in found.assumed),
        table(["verdict", "claim", "reason"], rows, left=3),
    )


def spread(t: Any) -> str:
    """Length and range of a vector."""
    return f"{len(t)} entries from {float(t.min()):.4g} to {float(t.max()):.4g}" if len(t) else "no entries"


def interval(lower: float, upper: float) -> str:
    """Rounded outward."""
    return f"[{below(lower, DIGITS)}, {above(upper, DIGITS)}]"


def verdict(word: str) -> Node:
    """A verdict in its colour, which the word says too."""
    kind = (
        "good"
        if word in ("satisfied", "proven again")
        else "bad"
        if word in ("violated", "NOT PROVEN")
        else "soft"
    )
    return tag("span", word, class_=kind)


def _head(words: str) -> Node:
    return tag("div", words, class_="head")
