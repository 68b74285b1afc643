"""`sdplip recertify CHECKPOINT`: what a checkpoint of another library claims, and what is proven."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdplip.cli.answers import print_json
from sdplip.cli.options import json_option

if TYPE_CHECKING:
    from sdplip.importers import Recertification


@click.command(short_help="Claimed and proven constant of another library's checkpoint.")
@click.argument("file", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@json_option
def recertify(file: Path, as_json: bool) -> None:
    """Print the constant that the layers of CHECKPOINT claim by construction, and the one that is proven of its numbers; of
    published architectures also of the whole network.

    CHECKPOINT is a state dict (.pt, .pth, .safetensors, .npz) of published SLL and CPL networks, of 1LLC (CPL, SLL, AOL, BCOP,
    Cayley), of BRONet and LiResNet, of deel-torchlip, or of torch's spectral_norm, told by the names of its arrays. Nothing in it
    is executed. Other libraries: build the network with them, and ask `sdplip.lipschitz(module)`.

    Exit code: 0, or 2 on bad input.
    """
    from sdplip.importers import recertify as again

    found = again(file)
    if as_json:
        print_json("recertify", {"file": str(file), **found.to_json()})
    else:
        _show(found, file)


def _show(found: "Recertification", file: Path) -> None:
    from sdplip.cli.render import above, open_console, open_table, say
    from sdplip.cli.render.frame import shape_of

    console = open_console()
    say(console, f"{file}\n\nAssumed, because the file does not say it:")
    for sentence in found.assumed:
        say(console, f"  - {sentence}")
    table = open_table(
        "layer", spare=("shape",), layout="", shape="", claimed="", bound="proven bound", seconds=""
    )
    for proof in found.layers:
        weight = proof.layer.weight
        cells = (proof.layer.layout, shape_of(weight.array.shape), f"{proof.claimed:g}", above(proof.bound))
        style = "red" if proof.bound > proof.claimed * (1 + 1e-5) else None
        table.add_row(weight.name, *cells, f"{proof.seconds:.2g}", style=style)
    console.print(table)
    for name, why in found.left_out.items():
        say(console, f"Not in the constants of the layers: `{name}`: {why}.")
    more = sum(proof.bound > proof.claimed * (1 + 1e-5) for proof in found.layers)
    say(
        console,
        f"Claimed: {found.claimed:g}. Proven: at most {above(found.bound)}, the product of {len(found.layers)} layers, of which {more} are"
        " not proven to keep what they claim.",
    )
    say(console, _whole(found))


def _whole(found: "Recertification") -> str:
    """The sentence about the network."""
    from sdplip.cli.render import above

    if found.network is None:
        return f"No whole network: {found.note}"
    proof, shape = found.network, " x ".join(map(str, found.network.network.input_shape or ()))
    text = f"Whole network, images of {shape}: claimed {proof.claimed:g}, proven at most {above(proof.body)}"
    if proof.network.normalised:
        text += f" before the last layer, whose rows have length 1; with it {above(proof.bound)} (certificates are for pairs of classes)"
    return f"{text}."
