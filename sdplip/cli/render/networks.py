"""Tables of whole networks: `bound`, and the claims about networks that `verify` proves again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from sdplip.cli.render.frame import above, below, open_console, open_table

if TYPE_CHECKING:
    from sdplip.bounds import NetworkBound
    from sdplip.certificates.file import Verification
    from sdplip.certificates.network_file import NetworkRecord
    from sdplip.certificates.parts_file import PartsRecord
    from sdplip.certificates.pieces_file import PiecesRecord
    from sdplip.certificates.radii_file import RadiiRecord
    from sdplip.certificates.region import Region
    from sdplip.certificates.rows_file import RowsRecord
    from sdplip.certificates.system_file import SystemRecord


def bound(
    results: "Sequence[NetworkBound]",
    best: "NetworkBound",
    title: str,
    verify: str | None,
    plot: Path | None = None,
    assumed: Sequence[str] = (),
) -> None:
    """Prints one row a method, then what is proven of which network, and what is not; `verify` is the command that proves `best`
    again."""
    console = open_console()
    console.print(f"{title}\n", soft_wrap=True)
    for sentence in assumed:
        console.print(sentence, soft_wrap=True, markup=False, highlight=False)
    if assumed:
        console.print()
    table = open_table("method", bound="proven bound", sdp="sdp_lower", gap="", seconds="")
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
        f" y{_inside(best)}, {_norms(best)} ({best.method})"
        f"{', of the network as it was read above' if assumed else ''}.",
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


def verify_network(entry: "NetworkRecord", result: "Verification", file: Path) -> None:
    """Prints the claim and whether it was proven again."""
    console = _again(entry.name, result)
    slopes = entry.certificate.slopes
    least = min((float(a.min()) for a, _ in slopes), default=0.0)
    most = max((float(b.max()) for _, b in slopes), default=1.0)
    console.print(
        f"The claim is about the {len(entry.digests)} matrices in {file}, with activations of slopes in"
        f" [{least:g}, {most:g}] between.",
        soft_wrap=True,
    )


def verify_parts(entry: "PartsRecord", result: "Verification", file: Path) -> None:
    """Prints the claim of a network that is proven part by part, and whether it was proven again."""
    console = _again(entry.name, result)
    kinds = ", ".join(proof.kind for proof in entry.proofs)
    console.print(
        f"The claim is about the weights in {file}, proven part by part ({kinds}), with activations of the slopes that the"
        " certificate says.",
        soft_wrap=True,
    )


def verify_system(
    entry: "SystemRecord | RowsRecord | PiecesRecord | RadiiRecord", result: "Verification", file: Path
) -> None:
    """Prints the claim of a network with sorting, skips, a region or a pair, and whether it was proven again."""
    console = _again(entry.name, result)
    parts = [] if entry.claim.region is None else [f"for inputs in the {_where(entry.claim.region)}"]
    parts += [] if entry.claim.pair is None else ["for output {} minus output {}".format(*entry.claim.pair)]
    console.print(
        f"The claim is about the {len(entry.digests)} matrices in {file}{', ' * bool(parts)}{' and '.join(parts)},"
        " with the activations that the certificate says.",
        soft_wrap=True,
    )


def _again(name: str, result: "Verification") -> Console:
    """Prints whether the claim was proven again; what it is about comes next."""
    console = open_console()
    table = open_table("network", verdict="", reason="")
    verdict = Text("proven", "green") if result.proven else Text("NOT PROVEN", "red")
    table.add_row(name, verdict, result.reason)
    console.print(table)
    return console


def _inside(result: "NetworkBound") -> str:
    region = None if result.claim is None else result.claim.region
    return "" if region is None else f" in the {_name(region)}"


def _norms(result: "NetworkBound") -> str:
    if result.row is None:
        return "in Euclidean norms"
    return f"from Euclidean lengths to the largest output, which is output {result.row}"


def _where(region: "Region") -> str:
    return f"{_name(region)} of the certificate ({region.inputs} coordinates)"


def _name(region: "Region") -> str:
    from sdplip.certificates.region import Cut

    return "ball within the box" if isinstance(region, Cut) else type(region).__name__.lower()
