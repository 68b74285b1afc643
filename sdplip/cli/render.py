"""Tables for people. Intervals are printed rounded outward, so that what one reads is still proven."""

import json
import os
import sys
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from sdplip.bounds import NetworkBound
    from sdplip.certificates.file import Record, Verification
    from sdplip.certificates.network_file import NetworkRecord
    from sdplip.certificates.parts_file import PartsRecord
    from sdplip.certificates.region import Region
    from sdplip.certificates.rows_file import RowsRecord
    from sdplip.certificates.system_file import SystemRecord
    from sdplip.reports import CheckReport, CompareReport, LayerComparison, ScaleReport
    from sdplip.robustness.curve import Curve
    from sdplip.robustness.published import PublishedRow

STYLES = {"satisfied": "green", "violated": "red", "undecided": "yellow"}
WIDTH = 160
"""Columns when the output is no terminal."""


def json_lines(document: dict[str, Any]) -> None:
    """Prints the document as JSON, without NaN or infinity, which JSON does not know."""
    print(json.dumps(document, indent=2, allow_nan=False))


def check(report: "CheckReport", file: Path, certificate: Path | None) -> None:
    """Prints one row a layer, then what follows."""
    console = _console()
    first = report.layers[0].certificate
    console.print(f"{file}: {_question(first.scaling, first.form)}\n", soft_wrap=True)
    table = _table(
        "layer", "shape", c="proven interval of c", bound="Lipschitz bound", verdict="", seconds=""
    )
    for row in report.layers:
        proof, verdict = row.certificate, row.verdict.value
        table.add_row(
            row.layer.name,
            _shape(row.layer.weight.array.shape),
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
    console.print("; ".join(parts) + ".", soft_wrap=True)
    console.print(
        "c is the least number with W^T W <= c^2 T; both ends of its interval are proven.", soft_wrap=True
    )
    if certificate:
        console.print(
            f"Proofs written. Check them anywhere: sdplip verify {certificate} {file}", soft_wrap=True
        )
    elif report.verdict.value == "undecided" and any(row.layer.is_convolution for row in report.layers):
        console.print("Next: `--image-size H,W` narrows the interval of a convolution.", soft_wrap=True)
    elif report.verdict.value == "violated":
        console.print(
            f"Next: `sdplip compare {file}` shows scalings T that every layer satisfies.", soft_wrap=True
        )


def compare(report: "CompareReport", file: Path, plot: Path | None) -> None:
    """Prints one table a layer."""
    console = _console()
    trace = report.objective.value == "min_trace"
    quantity = "trace" if trace else "geometric mean of t"
    for layer in report.layers:
        console.print(f"{layer.layer.name}, {_shape(layer.layer.weight.array.shape)}", style="bold")
        console.print(_comparison_table(layer))
        console.print(_comparison_sentence(layer, quantity) + "\n", soft_wrap=True)
    console.print(
        f"`x best`: {quantity} of c^2 t, a T that satisfies the condition, relative to the last row. Singular values are"
        " those of P = W T^(-1/2): the nearer to 1, the more gradient passes.",
        soft_wrap=True,
    )
    if plot:
        console.print(f"Figure: {plot}", soft_wrap=True)
    else:
        console.print(
            f"Next: `--plot compare.png` draws this; `sdplip scale {file} -o scaled.npz` applies the best T.",
            soft_wrap=True,
        )


def scale(report: "ScaleReport", file: Path, output: Path, certificate: Path) -> None:
    """Prints one row a layer."""
    console = _console()
    form = report.layers[0].source.form
    proven = "c of the stored weight" if form == "linear" else "proven interval of c"
    table = _table("layer", "shape", trace="trace of T", c=proven, bound="Lipschitz bound", seconds="")
    for row in report.layers:
        proof = row.certificate
        cells = (
            f"{row.t.sum():.6g}",
            interval(proof.c_lower, proof.c),
            above(proof.bound),
            f"{row.seconds:.2g}",
        )
        table.add_row(row.stored.name, _shape(row.stored.array.shape), *cells)
    console.print(f"{file}, rescaled by T from `{report.layers[0].proposed.scaling}`\n", soft_wrap=True)
    console.print(table)
    what = (
        "W T^(-1/2) and t" if form == "linear" else "the unchanged weight and t, for x - 2 W T^-1 act(W^T x)"
    )
    console.print(
        f"{output} holds {what} of each layer; bounds are proven for the numbers as stored.", soft_wrap=True
    )
    console.print(f"Check them anywhere: sdplip verify {certificate} {output}", soft_wrap=True)


def verify(records: "Sequence[Record]", results: "Sequence[Verification]", file: Path) -> None:
    """Prints one row a record."""
    console = _console()
    table = _table("layer", "shape", form="", scaling="", verdict="", reason="")
    for record, result in zip(records, results, strict=True):
        verdict = Text("proven", "green") if result.proven else Text("NOT PROVEN", "red")
        shape = _shape(record.shape)
        table.add_row(
            record.name, shape, record.certificate.form, record.certificate.scaling, verdict, result.reason
        )
    console.print(table)
    proven = sum(result.proven for result in results)
    console.print(
        f"{proven} of {len(results)} claims about {file} proven again, from the two files alone.",
        soft_wrap=True,
    )


def bound(
    results: "Sequence[NetworkBound]",
    best: "NetworkBound",
    title: str,
    verify: str | None,
    plot: Path | None = None,
) -> None:
    """Prints one row a method, then what is proven and what is not; `verify` is the command that proves `best` again."""
    console = _console()
    console.print(f"{title}\n", soft_wrap=True)
    table = _table("method", bound="proven bound", sdp="sdp_lower", gap="", seconds="")
    rows = {name: (value, None) for name, value in best.others.items()} if len(results) == 1 else {}
    rows = rows | {result.method: (result.value, result) for result in results}
    for name, (value, result) in rows.items():
        cells = ("", "", "")
        if result:
            lower, gap = result.sdp_lower, result.gap
            cells = (
                "" if lower is None else below(lower, 9),
                "" if gap is None else f"{gap:.0e}",
                f"{result.seconds:.2g}",
            )
        table.add_row(name, above(value, 9), *cells, style="bold" if name == best.method else None)
    console.print(table)
    console.print(
        f"Proven: |f(x) - f(y)|{'' if best.row is None else '_inf'} <= {above(best.value, 9)} |x - y| for all x,"
        f" y{_inside(best)}, {_norms(best)} ({best.method}).",
        soft_wrap=True,
    )
    what = "has norm" if best.row is None else "has a row of length"
    found = f"the largest Jacobian found {what} {below(best.lower)}" if best.lower else "no Jacobian is known"
    dual = " `sdp_lower` is a solver's dual value, below which that method cannot come."
    console.print(
        f"Floating point, not proven: {found}.{dual if any(r.sdp_lower is not None for r in results) else ''}",
        soft_wrap=True,
    )
    if verify:
        console.print(f"Proof written. Check it anywhere: {verify}", soft_wrap=True)
    if plot:
        console.print(f"Figure: {plot}", soft_wrap=True)


def curves(
    found: "Sequence[Curve]", rows: "Sequence[PublishedRow]", figure: Path | None, table: Path | None
) -> None:
    """Prints one row a curve and a published row, then where the files are."""
    console = _console()
    radii = list(
        dict.fromkeys(["36/255", "72/255", "108/255", "1", *(r for row in rows for r, _ in row.certified)])
    )
    grid = _table(
        "curve", n="", clean="clean %", **{f"r{i}": f"> {r}" for i, r in enumerate(radii)}, mean="mean radius"
    )
    for curve in found:
        cells = [f"{100 * x:.2f}" for x in (curve.clean, *map(curve.at, radii))]
        grid.add_row(curve.name, str(curve.n), *cells, below(curve.mean_radius, 4))
    for row in rows:
        cell = dict(row.certified)
        certified = [f"{cell[r]:g}" if r in cell else "" for r in radii]
        grid.add_row(
            row.model, "", "" if row.clean is None else f"{row.clean:g}", *certified, "", style="dim"
        )
    console.print(grid)
    for row in rows:
        words = [f"not certified: {row.doubt}"] if row.doubt else []
        words += ["trained on generated images too"] if row.extra_data else []
        words += [row.note] if row.note else []
        console.print(f"{row.model}: {row.source}{''.join('; ' + w for w in words)}.", soft_wrap=True)
    for curve in found:
        for p in curve.broken:
            console.print(
                f"WARNING: {p.attack} leaves {curve.name} less than is certified at {p.eps:.6g}. Unless it saw other samples"
                " or another network, a certificate is false: please report it.",
                style="red",
                soft_wrap=True,
            )
    if figure:
        console.print(f"Figure: {figure}", soft_wrap=True)
    if table:
        console.print(f"Table: {table}", soft_wrap=True)
    if not (figure or table):
        console.print(
            "Next: `-o curves.png` draws this, `--csv curves.csv` writes every step.", soft_wrap=True
        )


def verify_network(entry: "NetworkRecord", result: "Verification", file: Path) -> None:
    """Prints the claim and whether it was proven again."""
    console = _console()
    slopes = entry.certificate.slopes
    least = min((float(a.min()) for a, _ in slopes), default=0.0)
    most = max((float(b.max()) for _, b in slopes), default=1.0)
    table = _table("network", verdict="", reason="")
    verdict = Text("proven", "green") if result.proven else Text("NOT PROVEN", "red")
    table.add_row(entry.name, verdict, result.reason)
    console.print(table)
    console.print(
        f"The claim is about the {len(entry.digests)} matrices in {file}, with activations of slopes in"
        f" [{least:g}, {most:g}] between.",
        soft_wrap=True,
    )


def verify_parts(entry: "PartsRecord", result: "Verification", file: Path) -> None:
    """Prints the claim of a network that is proven part by part, and whether it was proven again."""
    console = _console()
    table = _table("network", verdict="", reason="")
    verdict = Text("proven", "green") if result.proven else Text("NOT PROVEN", "red")
    table.add_row(entry.name, verdict, result.reason)
    console.print(table)
    kinds = ", ".join(proof.kind for proof in entry.proofs)
    console.print(
        f"The claim is about the weights in {file}, proven part by part ({kinds}), with activations of the slopes that the"
        " certificate says.",
        soft_wrap=True,
    )


def verify_system(entry: "SystemRecord | RowsRecord", result: "Verification", file: Path) -> None:
    """Prints the claim of a network with sorting, skips, a region or a pair, and whether it was proven again."""
    console = _console()
    table = _table("network", verdict="", reason="")
    verdict = Text("proven", "green") if result.proven else Text("NOT PROVEN", "red")
    table.add_row(entry.name, verdict, result.reason)
    console.print(table)
    parts = [] if entry.claim.region is None else [f"for inputs in the {_where(entry.claim.region)}"]
    parts += [] if entry.claim.pair is None else ["for output {} minus output {}".format(*entry.claim.pair)]
    console.print(
        f"The claim is about the {len(entry.digests)} matrices in {file}{', ' * bool(parts)}{' and '.join(parts)},"
        " with the activations that the certificate says.",
        soft_wrap=True,
    )


def _inside(result: "NetworkBound") -> str:
    region = None if result.claim is None else result.claim.region
    return "" if region is None else f" in the {type(region).__name__.lower()}"


def _norms(result: "NetworkBound") -> str:
    if result.row is None:
        return "in Euclidean norms"
    return f"from Euclidean lengths to the largest output, which is output {result.row}"


def _where(region: "Region") -> str:
    kind = type(region).__name__.lower()
    return f"{kind} of the certificate ({region.inputs} coordinates)"


def above(x: float, digits: int = 7) -> str:
    """`x` in decimal, rounded up; within 1e-5 of 1 as `1 + 2e-13`."""
    return _decimal(x, digits, ROUND_CEILING)


def below(x: float, digits: int = 7) -> str:
    """`x` in decimal, rounded down, likewise."""
    return _decimal(x, digits, ROUND_FLOOR)


def _decimal(x: float, digits: int, rounding: str) -> str:
    if 0 < abs(x - 1) < 1e-5:  # the difference is exact
        rest = Context(1, rounding).create_decimal(Decimal(x - 1))
        return f"1 {'+' if x > 1 else '-'} {float(abs(rest)):.0e}"
    return f"{float(Context(digits, rounding).create_decimal(Decimal(x))):.{digits}g}"


def interval(lower: float, upper: float) -> str:
    """The interval rounded outward."""
    return f"[{below(lower)}, {above(upper)}]"


def _question(scaling: str, form: str) -> str:
    if scaling == "identity" and form == "linear":
        return "is each layer 1-Lipschitz as it stands? (W^T W <= T with T = I)"
    T = {"identity": "T = I", "given": "the given t"}.get(scaling, f"T from `{scaling}`")
    layer = "the layer W T^(-1/2) x" if form == "linear" else "the residual layer x - 2 W T^-1 act(W^T x)"
    return f"does {layer} satisfy W^T W <= T, with {T}?"


def _comparison_table(layer: "LayerComparison") -> Table:
    table = _table(
        "scaling",
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
            f"Proven: no T beats the {quantity} of {row.name} by more than {optimum.gap:.1e} ({optimum.solver})."
        )
    closed = [other for other in layer.rows[:-1] if other.certificate.c <= 1 + 1e-6]
    if closed:
        best = min(closed, key=layer.ratio)
        sentences.append(f"The best closed form, {best.name}, has {layer.ratio(best):.4g} times that.")
    if optimum.status.name != "OPTIMAL":
        sentences.append(optimum.status.value)
    if layer.grid:
        size = _shape(layer.grid)
        known = layer.layer.geometry.image_size is not None
        sentences.append(
            f"Frequencies of a {size} image"
            + ("." if known else "; the image size is not known, and each c is proven for all.")
        )
    return " ".join(sentences)


def _table(*left: str, **right: str) -> Table:
    """Columns of text, then columns of numbers (titles from the keyword where the value is empty)."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in left:
        table.add_column(title, overflow="fold")
    for key, title in right.items():
        text = key in ("verdict", "reason", "form", "scaling")
        table.add_column(title or key, justify="left" if text else "right", overflow="fold")
    return table


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _console() -> Console:
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(width=wide, markup=False, highlight=False, emoji=False)
