"""What `sdplip certify` prints for people."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdplip.arithmetic.decimals import percent_above, percent_below
from sdplip.cli.render import above, below, open_console, open_table, say, say_command

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
    say(console, f"{document['file']} on {document['data']}, {document['split']} split, {found.n} images\n")
    left = document["empirical"].get(attack, {})
    columns = {"certified": "certified"} | ({"attacked": f"left by {attack}", "gap": "gap"} if left else {})
    table = open_table("radius", **columns)
    table.add_row("0 (clean)", _percent(found.clean), *(["", ""] if left else []))
    for eps, accuracy in document["certified"].items():
        attacked = [percent_above(left[eps]), percent_above(document["gaps"][attack][eps])] if left else []
        table.add_row(eps, _percent(accuracy), *attacked)
    console.print(table)
    if document["local"]:
        _balls(console, document["local"])
    mean = document["mean_radius"]
    say(
        console,
        f"Mean certified radius {below(mean, 5)}; largest constant of a margin {above(found.margin_constant)}.",
    )
    say(console, f"Lipschitz bound of the network\n{found.bound}\n")
    if found.precision in ("bfloat16", "float16"):
        words = f"predictions of the pass in {found.precision}, whose distance from that is measured and subtracted"
    elif found.rounding == "proven":
        words = f"a proven bound of all {found.precision} rounding errors is subtracted"
    else:
        words = "computed in float64; a module has no proven rounding error, so nothing is subtracted"
    say(console, f"Certified: {SCOPES[found.scope]}; {words}. {found.seconds:.1f} s.")
    if samples:
        say(console, f"One row an image: {samples}")
    if run:
        words = f"sdplip curves {shlex.quote(str(run))} -o curves.png"
        say_command(console, "Kept in the run. Next:", words)
    if document["verify"]:
        say_command(console, "Proof written. Check it anywhere:", document["verify"])
    if not left:
        say(console, "Next: `--attack pgd` shows how far above this the truth may lie.")


def _balls(console: Any, local: dict[str, Any]) -> None:
    """By what images are certified at each radius."""
    names = {"constants": "constants of all inputs"}
    for eps, counts in local["by"].items():
        by = ", ".join(f"{n} by {names.get(name, name)}" for name, n in counts.items() if n)
        say(console, f"At {eps}: {by or 'none certified'}; without --local {_percent(local['before'][eps])}.")
    say(console, f"{local['seconds_an_image']:.2f} s of CPU time an image that constants left open.")
    if local["unfit"]:
        say(console, f"Offsets were not tried. {local['unfit']}")


def _percent(share: float) -> str:
    return percent_below(share)
