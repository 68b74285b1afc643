"""Tables of layers: `check`, `compare`, `scale`, and the claims about layers that `verify` proves again."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from sdplip.cli.answers import verify_command
from sdplip.cli.render.frame import (
    Grid,
    above,
    interval,
    open_console,
    open_table,
    say,
    say_command,
    shape_of,
)

if TYPE_CHECKING:
    from sdplip.reports import CheckReport, CompareReport, LayerComparison, ScaleReport

STYLES = {"satisfied": "green", "violated": "red", "undecided": "yellow"}


def check(report: "CheckReport", file: Path, certificate: Path | None) -> None:
    """Prints one row a layer, then what follows."""
    console = open_console()
    first = report.layers[0].certificate
    say(console, f"{file}: {_question(first.scaling, first.form)}\n")
    table = open_table(
        "layer", "shape", c="proven interval of c", bound="Lipschitz bound", verdict="", seconds=""
    )
    for row in report.layers:
        proof, verdict = row.certificate, row.verdict.value
        table.add_row(
            row.layer.name,
            shape_of(row.layer.weight.array.shape),
            interval(proof.c_lower, proof.c),
            above(proof.bound),
            Text(verdict, STYLES[verdict]),
            f"{row.seconds:.2g}",
        )
    console.print(table)
    count = {name: sum(row.verdict.value == name for row in report.layers) for name in STYLES}
    total = len(report.layers)
    parts = [
        f"{count['satisfied']} of {total} layer{'s' * (total > 1)} satisf{'ies' if total == 1 else 'y'} the condition"
    ]
    if count["violated"]:
        parts.append(
            f"{count['violated']} violate{'s' * (count['violated'] == 1)} it, with a vector as proof"
        )
    if count["undecided"]:
        parts.append(f"{count['undecided']} undecided: the interval contains 1 + tol")
    say(console, "; ".join(parts) + ".")
    say(console, "c is the least number with W^T W <= c^2 T; both ends of its interval are proven.")
    if certificate:
        say_command(console, "Proofs written. Check them anywhere:", verify_command(certificate, file))
    elif report.verdict.value == "undecided" and any(row.layer.is_convolution for row in report.layers):
        say(console, "Next: `--image-size H,W` narrows the interval of a convolution.")
    elif report.verdict.value == "violated":
        say(console, f"Next: `sdplip compare {file}` shows scalings T that every layer satisfies.")


def compare(report: "CompareReport", file: Path, plot: Path | None) -> None:
    """Prints one table a layer."""
    console = open_console()
    trace = report.objective.value == "min_trace"
    quantity = "trace" if trace else "geometric mean of t"
    for layer in report.layers:
        console.print(f"{layer.layer.name}, {shape_of(layer.layer.weight.array.shape)}", style="bold")
        console.print(_comparison_table(layer))
        say(console, _comparison_sentence(layer, quantity) + "\n")
    say(
        console,
        f"`x best`: {quantity} of c^2 t, a T that satisfies the condition, relative to the last row. Singular values are"
        " those of P = W T^(-1/2): the nearer to 1, the more gradient passes.",
    )
    if plot:
        say(console, f"Figure: {plot}")
    else:
        say(
            console,
            f"Next: `--plot compare.png` draws this; `sdplip scale {file} -o scaled.npz` applies the best T.",
        )


def scale(report: "ScaleReport", file: Path, output: Path, certificate: Path) -> None:
    """Prints one row a layer."""
    console = open_console()
    form = report.layers[0].source.form
    proven = "c of the stored weight" if form == "linear" else "proven interval of c"
    table = open_table("layer", "shape", trace="trace of T", c=proven, bound="Lipschitz bound", seconds="")
    for row in report.layers:
        proof = row.certificate
        cells = (
            f"{row.t.sum():.6g}",
            interval(proof.c_lower, proof.c),
            above(proof.bound),
            f"{row.seconds:.2g}",
        )
        table.add_row(row.stored.name, shape_of(row.stored.array.shape), *cells)
    say(console, f"{file}, rescaled by T from `{report.layers[0].proposed.scaling}`\n")
    console.print(table)
    what = (
        "W T^(-1/2) and t" if form == "linear" else "the unchanged weight and t, for x - 2 W T^-1 act(W^T x)"
    )
    say(console, f"{output} holds {what} of each layer; bounds are proven for the numbers as stored.")
    say_command(console, "Check them anywhere:", verify_command(certificate, output))


def _question(scaling: str, form: str) -> str:
    if scaling == "identity" and form == "linear":
        return "is each layer 1-Lipschitz as it stands? (W^T W <= T with T = I)"
    T = {"identity": "T = I", "given": "the given t"}.get(scaling, f"T from `{scaling}`")
    layer = "the layer W T^(-1/2) x" if form == "linear" else "the residual layer x - 2 W T^-1 act(W^T x)"
    return f"does {layer} satisfy W^T W <= T, with {T}?"


def _comparison_table(layer: "LayerComparison") -> Grid:
    other = "log_det" if layer.objective.value == "min_trace" else "trace"
    table = open_table(
        "scaling",
        spare=(other,),
        trace="",
        ratio="x best",
        log_det="log det T",
        c="proven c",
        mean="mean s.v.",
        least="least s.v.",
        share="s.v. > 0.99",
        defect="|I - P'P|",
        seconds="",
    )
    for row in layer.rows:
        best = row.optimum is not None
        table.add_row(
            row.name,
            f"{row.trace:.6g}",
            f"{layer.ratio(row):.4g}",
            f"{row.log_det:.5g}",
            above(row.certificate.c, 6),
            f"{row.spectrum.mean:.4f}",
            f"{row.spectrum.least:.4f}",
            f"{row.spectrum.share_above():.0%}",
            f"{row.spectrum.orthogonality_defect:.4g}",
            f"{row.seconds:.2g}",
            style="bold" if best else None,
        )
    return table


def _comparison_sentence(layer: "LayerComparison", quantity: str) -> str:
    row, optimum = layer.best, layer.best.optimum
    assert optimum is not None, "the last row is the optimal one"
    sentences = []
    if optimum.gap is None:
        sentences.append(
            f"{optimum.solver} gave no dual point, so nothing bounds how much better another T may be."
        )
    else:
        sentences.append(
            f"Proven: no T beats the {quantity} of {row.name} by more than {above(optimum.gap, 2)} ({optimum.solver})."
        )
    closed = [other for other in layer.rows[:-1] if other.certificate.c <= 1 + 1e-6]
    if closed:
        best = min(closed, key=layer.ratio)
        sentences.append(f"The best closed form, {best.name}, has {layer.ratio(best):.4g} times that.")
    if optimum.status.name != "OPTIMAL":
        sentences.append(optimum.status.value)
    if layer.grid:
        size = shape_of(layer.grid)
        known = layer.layer.geometry.image_size is not None
        sentences.append(
            f"Frequencies of a {size} image"
            + ("." if known else "; the image size is not known, and each c is proven for all.")
        )
    return " ".join(sentences)
