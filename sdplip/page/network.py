"""The report of a weight file or network file: its bound with the proof, and its layers beside their best scalings."""

import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from sdplip.arithmetic.decimals import above, below
from sdplip.bounds.answer import NetworkBound
from sdplip.bounds.choose import bound
from sdplip.errors import SdplipError
from sdplip.html.elements import Node, facts, joined, paragraph, table
from sdplip.html.results import check_report, network_bound
from sdplip.network.read.file import read_file
from sdplip.network.read.understood import Understood
from sdplip.page.layers import layers_body, layers_of
from sdplip.page.report import Attachment, Report, Section
from sdplip.progress import bound_bar
from sdplip.reports import CheckReport, LayerCheck, check
from sdplip.verifier.claim import LipschitzClaim
from sdplip.verifier.document import Document, Entry, digest, write

CERTIFICATE = "certificate.json"


def network_report(file: Path, *, seconds: float = 20.0) -> Report:
    """What is proven of the network in a file, and its certificate.

    Args:
        file: an ONNX graph, a network file, or bare weights as `sdplip bound FILE` reads them without options.
        seconds: for the bound, as many for the constants of layers, and for their comparison with their optimal scalings.

    Raises:
        SdplipError: as the readers and `sdplip.bounds.bound`.
    """
    understood = read_file(file, biases=False)
    with bound_bar() as (watch, told):
        found = bound(understood.network, progress=watch, report=told, seconds=seconds)
    attachments = [
        Attachment(CERTIFICATE, _certificate(file, understood, found), "the proof of the bound"),
        Attachment.of(file, "the file that it is about"),
    ]
    sections = [
        Section("Bound", joined("", network_bound(found), _tried(found))),
        Section("Network", _understood(understood)),
        *_layers(file, seconds),
    ]
    assumed = " Of the network as it was read: see what was assumed." if understood.sentences else ""
    lead = [
        f"Proven: |f(x) - f(y)| <= {above(found.bound, 9)} |x - y| for all inputs x, y (Euclidean norms), by {found.method}.{assumed}"
    ]
    if found.lower:
        lead.append(
            f"Not proven: the largest Jacobian that was found has norm {below(found.lower, 7)}; the true constant is not below that"
            " (floating point)."
        )
    return Report(str(file.name), lead, sections, attachments, (CERTIFICATE, file.name), found.bound)


def _certificate(file: Path, understood: Understood, found: NetworkBound) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / CERTIFICATE
        entry = Entry(LipschitzClaim(found.bound).to_json(), found.proof)
        write(path, Document(digest(file), understood.reading, (entry,)), version("sdplip"))
        return path.read_bytes()


def _tried(found: NetworkBound) -> Node:
    rows = [
        [one.method, "" if one.bound is None else above(one.bound, 9), f"{one.seconds:.2g}", one.note]
        for one in found.tried
    ]
    return table(["method", "proven bound", "seconds", "note"], rows)


def _understood(understood: Understood) -> Node:
    network = understood.network
    rows = [
        ("input", " × ".join(map(str, network.input_shape))),
        ("outputs", str(network.outputs)),
        ("operations", str(len(network.nodes))),
        ("checked", understood.checked),
    ]
    assumed = [paragraph(f"Assumed: {sentence}") for sentence in understood.sentences]
    left = [paragraph(f"Not in the network: {name}, {why}.") for name, why in understood.left_out]
    nodes = [
        [str(k + 1), node.title, " × ".join(map(str, node.shape))]
        for k, node in enumerate(network.nodes[:60])
    ]
    return joined("", facts(rows), *assumed, *left, table(["", "operation", "shape"], nodes, left=3))


def _layers(file: Path, seconds: float) -> list[Section]:
    """Its layers one by one, where the file has any that stand by themselves."""
    try:
        asked, end, found = layers_of(file), time.monotonic() + seconds, list[LayerCheck]()
        for layer, _ in asked:
            if time.monotonic() < end:
                found += check([layer.weight]).layers
    except SdplipError as error:
        return [Section("Layers", paragraph(f"Layers one by one: {error}"))]
    left = len(asked) - len(found)
    more = paragraph(f"{left} more: the time is over. `sdplip check {file}` proves all.") if left else None
    checked = joined("", check_report(CheckReport(tuple(found))) if found else None, more)
    again = f"`sdplip compare {file} --layer NAME` shows one"
    return [Section("Layers", checked), Section("Scalings", layers_body(asked, seconds, again))]
