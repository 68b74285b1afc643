"""Tables of whole networks: `bound`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdplip.cli.render.frame import above, below, open_console, open_table, say, say_command

if TYPE_CHECKING:
    from rich.console import Console

    from sdplip.bounds import Expansion
    from sdplip.bounds.answer import NetworkBound
    from sdplip.kernel.regions import Region
    from sdplip.network.read.understood import Understood


def bound(
    results: "Sequence[NetworkBound]",
    best: "NetworkBound",
    title: str,
    verify: str | None,
    plot: Path | None,
    understood: "Understood",
    region: "Region | None",
    pair: tuple[int, int] | None,
    expanded: "Expansion | None" = None,
) -> None:
    """Prints what was assumed, one row a method, then what is proven of which network, and what is not; `verify` is the command
    that proves `best` again."""
    console = open_console()
    say(console, f"{title}\n")
    for sentence in understood.sentences:
        say(console, sentence)
    for name, why in understood.left_out:
        say(console, f"Not in the network: `{name}`, {why}.")
    if understood.sentences or understood.left_out:
        console.print()
    table = open_table("method", bound="proven bound", sdp="sdp_lower", gap="", seconds="")
    rows = {name: (value, None) for name, value in best.others.items()} if len(results) == 1 else {}
    rows = rows | {result.method: (result.bound, result) for result in results}
    for name, (value, result) in rows.items():
        cells = ("", "", "")
        if result:
            lower, gap = result.sdp_lower, result.gap
            cells = (
                "" if lower is None else below(lower, 9),
                "" if gap is None else above(gap, 1),
                f"{result.seconds:.2g}",
            )
        table.add_row(name, above(value, 9), *cells, style="bold" if name == best.method else None)
    console.print(table)
    left = [f"{tried.method} {tried.note}" for tried in best.tried if tried.bound is None and tried.note]
    left = list(dict.fromkeys(left))  # of every output by itself
    if left:
        say(console, f"Not taken: {'; '.join(left)}.")
    for note in dict.fromkeys(result.note for result in results if result.note):
        say(console, f"{note[:1].upper()}{note[1:]}.")
    assumed = ", of the network as it was read above" if understood.sentences else ""
    say(console, f"Proven: {_claim(best, region, pair)} ({best.method}){assumed}.")
    if expanded:
        say(console, f"Proven: |f(x) - f(y)| >= {below(expanded.lower, 9)} |x - y| for all x, y{assumed}.")
    if understood.checked:
        say(console, f"What was understood {understood.checked}.")
    if best.lower_proven:
        at = " (some biases have it)" if best.witness is None else ""
        say(console, f"Proven too: no constant below {below(best.lower, 9)} will do{at}.")
        _files(console, verify, plot)
        return
    what = "has norm" if best.goal.norm == "l2" else "has a row of length"
    found = f"the largest Jacobian found {what} {below(best.lower)}" if best.lower else "no Jacobian is known"
    dual = " `sdp_lower` is a solver's dual value, below which that method cannot come."
    say(
        console,
        f"Floating point, not proven: {found}.{dual if any(r.sdp_lower is not None for r in results) else ''}",
    )
    _files(console, verify, plot)


def _files(console: "Console", verify: str | None, plot: Path | None) -> None:
    """What was written."""
    if verify:
        say_command(console, "Proof written. Check it anywhere:", verify)
    if plot:
        say(console, f"Figure: {plot}")


def _claim(best: "NetworkBound", region: "Region | None", pair: tuple[int, int] | None) -> str:
    """The inequality, its outputs, its norms, its region."""
    from sdplip.verifier.claim import region_words

    f = "|f(x) - f(y)|"
    where = "" if region is None else f" in {region_words(region)}"
    norms = "in Euclidean norms"
    if best.goal.norm == "linf":
        which = "by all outputs at once" if best.row is None else f"which is output {best.row}"
        f, norms = f"{f}_inf", f"from Euclidean lengths to the largest output, {which}"
    if pair:
        f, norms = "|g(x) - g(y)|", f"for g = output {pair[0]} minus output {pair[1]}"
    return f"{f} <= {above(best.bound, 9)} |x - y| for all x, y{where}, {norms}"
