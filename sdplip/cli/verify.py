"""`sdplip verify CERT FILE`: only the readers and the trusted kernel are used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdplip.cli.network import NetworkSource
from sdplip.cli.options import json_option, transpose_option

if TYPE_CHECKING:
    from sdplip.certificates.file import Verification


@click.command(short_help="Prove the claims of a certificate again from the files alone.")
@click.argument("certificate", metavar="CERT", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@transpose_option("As it was when the certificate was made.")
@click.option("--layer", multiple=True, metavar="NAME", help="Of `sdplip bound`: as it was then.")
@json_option
@click.pass_context
def verify(
    ctx: click.Context,
    certificate: Path,
    file: Path,
    transpose: bool | None,
    layer: tuple[str, ...],
    as_json: bool,
) -> None:
    """Prove every claim of the certificate file CERT again for the weights in FILE.

    CERT is from `check` or `scale`, one claim a layer; from `bound`, one claim of the whole network; or from `tighten`, the
    radii of images. Nothing that proposed t or the multipliers takes part: no solver, no torch. Exit code: 0 all proven again,
    1 a claim is refuted, not provable, or about another weight, 2 bad input.
    """
    from sdplip.certificates.network_file import SCHEMA
    from sdplip.certificates.parts_file import SCHEMA as PARTS
    from sdplip.certificates.pieces_file import SCHEMA as PIECES
    from sdplip.certificates.radii_file import SCHEMA as RADII
    from sdplip.certificates.rows_file import SCHEMA as ROWS
    from sdplip.certificates.system_file import SCHEMA as SYSTEM

    if _schema(certificate) in (SYSTEM, ROWS, PIECES, RADII):
        proven = _system(certificate, NetworkSource(file, layer, transpose), as_json)
    elif _schema(certificate) == PARTS:
        proven = _parts(certificate, NetworkSource(file, layer, transpose), as_json)
    elif _schema(certificate) == SCHEMA:
        proven = _network(certificate, NetworkSource(file, layer, transpose), as_json)
    elif layer:
        raise click.UsageError(
            "--layer: this certificate names its layers itself, unlike those of `sdplip bound`. Drop it."
        )
    else:
        proven = _layers(certificate, file, transpose, as_json)
    ctx.exit(0 if proven else 1)


def _schema(path: Path) -> str | None:
    """What the file says it is; None where it says nothing, which `load` turns into a sentence."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document.get("schema") if isinstance(document, dict) else None


def _layers(certificate: Path, file: Path, transpose: bool | None, as_json: bool) -> bool:
    from sdplip.certificates import file as certificates
    from sdplip.cli import render
    from sdplip.weights import read, select

    records = certificates.load(certificate)
    weights = select(read(file, transpose=transpose), [record.name for record in records])
    by_name = {weight.name: weight.array for weight in weights}
    results = [certificates.verify(record, by_name[record.name]) for record in records]
    proven = all(result.proven for result in results)
    if as_json:
        layers = [{"name": r.name, "proven": r.proven, "reason": r.reason} for r in results]
        render.json_lines(
            {"certificate": str(certificate), "file": str(file), "proven": proven, "layers": layers}
        )
    else:
        render.verify(records, results, file)
    return proven


def _network(certificate: Path, source: NetworkSource, as_json: bool) -> bool:
    from dataclasses import replace

    from sdplip.certificates.network_file import load_network, verify_network
    from sdplip.cli import render
    from sdplip.networks import chain_of

    entry = load_network(certificate)
    chain = chain_of(replace(source, reading=entry.reading).network())
    claimed = replace(chain, slopes=entry.certificate.slopes)
    result = verify_network(entry, chain.weights, claimed.remainder())
    # Files of weights alone leave the activations to the claim; a graph has its own, which the claim must cover.
    if result.proven and source.is_onnx:
        pairs = zip(entry.certificate.slopes, chain.slopes, strict=True)
        if not all((a <= alpha).all() and (beta <= b).all() for (a, b), (alpha, beta) in pairs):
            reason = "the activations of the graph have slopes outside of those that were certified: certify this network anew"
            result = replace(result, proven=False, reason=reason)
    _report(
        certificate, source.file, result, as_json, lambda: render.verify_network(entry, result, source.file)
    )
    return result.proven


def _parts(certificate: Path, source: NetworkSource, as_json: bool) -> bool:
    from dataclasses import replace

    from sdplip.certificates.file import Verification
    from sdplip.certificates.parts import covers
    from sdplip.certificates.parts_file import load_parts, verify_parts
    from sdplip.cli import render
    from sdplip.errors import SdplipError
    from sdplip.networks.parts import parts_of, slopes_of, with_slopes

    entry = load_parts(certificate)
    network = replace(source, reading=entry.reading).network()
    try:
        whole = parts_of(with_slopes(network, entry.slopes), [proof.kind for proof in entry.proofs])
        result = verify_parts(entry, whole)
    except SdplipError as error:  # the parts of another network
        result = Verification(entry.name, False, str(error))
    if result.proven and source.is_onnx and not covers(entry.slopes, slopes_of(network)):
        reason = "the activations of the graph have slopes outside of those that were certified: certify this network anew"
        result = replace(result, proven=False, reason=reason)
    _report(
        certificate, source.file, result, as_json, lambda: render.verify_parts(entry, result, source.file)
    )
    return result.proven


def _system(certificate: Path, source: NetworkSource, as_json: bool) -> bool:
    from dataclasses import replace

    from sdplip.certificates.pieces_file import SCHEMA as PIECES
    from sdplip.certificates.pieces_file import PiecesRecord, load_pieces, verify_pieces
    from sdplip.certificates.radii_file import SCHEMA as RADII
    from sdplip.certificates.radii_file import RadiiRecord, load_radii, verify_radii
    from sdplip.certificates.rows_file import SCHEMA as ROWS
    from sdplip.certificates.rows_file import RowsRecord, load_rows, verify_rows
    from sdplip.certificates.system_file import load_system, maps, structure, verify_system
    from sdplip.cli import render
    from sdplip.networks import system_layers

    load = {ROWS: load_rows, PIECES: load_pieces, RADII: load_radii}.get(
        _schema(certificate) or "", load_system
    )
    entry = load(certificate)
    reading = {} if isinstance(entry, RadiiRecord) else entry.reading
    layers = system_layers(replace(source, reading=reading).network())
    found = list(maps(layers))
    if isinstance(entry, RowsRecord):
        result = verify_rows(entry, found)
    elif isinstance(entry, PiecesRecord):
        result = verify_pieces(entry, found)
    elif isinstance(entry, RadiiRecord):
        result = verify_radii(entry, found)
    else:
        result = verify_system(entry, found)
    # A graph has its own activations, which must be those of the claim; matrices alone leave them to it.
    if result.proven and source.is_onnx and structure(layers) != structure(entry.claim.layers):
        reason = "the layers of the graph are not those that were certified: certify this network anew"
        result = replace(result, proven=False, reason=reason)
    _report(
        certificate, source.file, result, as_json, lambda: render.verify_system(entry, result, source.file)
    )
    return result.proven


def _report(
    certificate: Path, file: Path, result: "Verification", as_json: bool, show: Callable[[], None]
) -> None:
    from sdplip.cli import render

    if not as_json:
        show()
        return
    layers = [{"name": result.name, "proven": result.proven, "reason": result.reason}]
    render.json_lines(
        {"certificate": str(certificate), "file": str(file), "proven": result.proven, "layers": layers}
    )
