"""What `sdplip certify` prints for people."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdplip.arithmetic.decimals import percent_above, percent_below
from sdplip.cli.render import above, below, open_console, open_table

if TYPE_CHECKING:
    from sdplip.robustness.certification import Certification

SCOPES = {
    "computed": "the network as it computes, at every image around",
    "exact": "the network in exact arithmetic",
}


def certification(
    found: "Certification", document: dict[str, Any], attack: str, samples: Path | None, run: Path | None
) -> None:
    """Prints accuracy at each radius, the tree of the bound, and what the rounding statement is."""
    console = open_console()
    console.print(
        f"{document['file']} on {document['data']}, {document['split']} split, {found.n} images\n",
        soft_wrap=True,
    )
    left = document["empirical"].get(attack, {})
    columns = {"certified": "certified"} | ({"attacked": f"left by {attack}", "gap": "gap"} if left else {})
    table = open_table("radius", **columns)
    table.add_row("0 (clean)", _percent(found.clean), *(["", ""] if left else []))
    for eps, accuracy in document["certified"].items():
        attacked = [percent_above(left[eps]), percent_above(document["gaps"][attack][eps])] if left else []
        table.add_row(eps, _percent(accuracy), *attacked)
    console.print(table)
    mean = document["mean_radius"]
    console.print(
        f"Mean certified radius {below(mean, 5)}; largest constant of a margin {above(found.margin_constant)}."
    )
    console.print(f"Lipschitz bound of the network\n{found.bound}\n", soft_wrap=True)
    if found.rounding == "proven":
        words = f"a proven bound of all {found.precision} rounding errors is subtracted"
    else:
        words = "computed in float64; a module has no proven rounding error, so nothing is subtracted"
    console.print(f"Certified: {SCOPES[found.scope]}; {words}. {found.seconds:.1f} s.", soft_wrap=True)
    if samples:
        console.print(f"One row an image: {samples}", soft_wrap=True)
    if run:
        console.print(f"Kept in the run. Next: sdplip curves {run} -o curves.png", soft_wrap=True)
    if not left:
        console.print("Next: `--attack pgd` shows how far above this the truth may lie.", soft_wrap=True)


def _percent(share: float) -> str:
    return percent_below(share)
