"""The report of a run folder of `sdplip train`, certified or not."""

import csv
import dataclasses
import json
import tempfile
import time
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdplip.arithmetic.decimals import above, below, percent_above, percent_below
from sdplip.errors import InvalidRun, NotProvable, SdplipError
from sdplip.html.curves import certified_chart, training_charts
from sdplip.html.elements import Node, code, facts, fold, joined, paragraph, table, tag
from sdplip.html.results import radii_table
from sdplip.html.trees import bound_nodes
from sdplip.kernel.accuracy import Arithmetic
from sdplip.kernel.proof import Goal, Proof
from sdplip.network.file import write_network
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.losses import AbstractRegression
from sdplip.page.layers import layers_body, layers_of
from sdplip.page.report import Attachment, Report, Section
from sdplip.page.samples import samples_body
from sdplip.progress import image_bar
from sdplip.robustness.arithmetic import network_in, pixels
from sdplip.robustness.asked import run
from sdplip.robustness.certification import Certification
from sdplip.robustness.curve import Curve, curve_of_certification
from sdplip.robustness.graph_accuracy import Certified, certify_graph, propose_margins
from sdplip.robustness.run import RESULT, read_run
from sdplip.robustness.run import SAMPLES as SAMPLES_TABLE
from sdplip.training.build import build_loss
from sdplip.training.data import DataSet, load
from sdplip.training.environment import ENVIRONMENT
from sdplip.training.metrics import read_lines
from sdplip.training.run import SUMMARY, load_run, read_summary
from sdplip.verifier.claim import LipschitzClaim
from sdplip.verifier.document import Document, Entry, digest, write

if TYPE_CHECKING:
    from torch import nn

    from sdplip.network import Network
    from sdplip.training.config import DataConfig, RunConfig

IMAGES, FIRST = 1000, 8
"""Images that the attached certificate is about, at most: the first ones of the test split. A few are certified to see how long it takes."""
PATIENCE = 3.0
"""They may take so many times the seconds of the report."""
CERTIFICATE, NETWORK, SAMPLES = "certificate.json", "network.safetensors", "images.npz"


def run_report(folder: Path, *, data: "DataConfig | None" = None, seconds: float = 20.0) -> Report:
    """What came of a run, what is proven of it, and a certificate of it.

    Args:
        folder: of `sdplip train`; where `sdplip certify` has been in it, its curve with what attacks left.
        data: where the images are, if not where the run had them.
        seconds: for the comparison of layers with their optimal scalings; three times as many for images.

    Raises:
        InvalidRun: a regression.
        SdplipError: no run there, or a damaged one; `data` that are not there or do not fit.
    """
    config, model = load_run(folder)
    if isinstance(build_loss(config.loss), AbstractRegression):
        raise InvalidRun(
            f"`{folder}` is a regression, and the page is about classes. `sdplip certify {folder}` has its answers."
        )
    images, missing = _data(config.data) if data is None else (load(data), "")
    shape = images.test.shape if images else None
    proven = _proven(model, images, shape, PATIENCE * seconds)
    curve = _curve(folder, proven)
    parts = [Section("Certified accuracy", _accuracy(folder, curve, proven, missing))]
    if proven is not None:
        parts.append(Section("Bound", _bound(proven)))
        if images is not None and len(proven.found.certification.constants) > 1:
            n = proven.found.certification.n
            parts.append(
                Section("Images", samples_body(model, images.test.images[:n], proven.found.certification, images.classes))
            )  # fmt: skip
    again = f"`sdplip compare {folder / 'model.safetensors'} --form residual --layer NAME` shows one"
    parts.append(Section("Scalings", layers_body(layers_of(model), seconds, again)))
    parts += _training(folder, config)
    lead = _lead(folder, curve, proven)
    attachments = [] if proven is None else proven.attachments
    verify = (CERTIFICATE, NETWORK, SAMPLES) if attachments else ()
    return Report(f"Run {folder.resolve().name}", lead, parts, attachments, verify, None if proven is None else proven.tree.value)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Proven:
    """What the kernel proves of a run here and now.

    Attributes:
        tree: of the bound, with the reasons of each module.
        found: certified images.
        arithmetic: whose prediction.
        attachments: certificate, network, images.
    """

    tree: Bound
    found: Certified
    arithmetic: str
    attachments: list[Attachment]


def _data(config: "DataConfig") -> tuple[DataSet | None, str]:
    """The data set, or why there is none."""
    try:
        return load(config), ""
    except SdplipError as error:
        return None, str(error)


def _proven(
    model: "nn.Module", images: DataSet | None, shape: tuple[int, ...] | None, seconds: float
) -> Proven | None:
    if images is None or shape is None:
        return None
    from sdplip.network.read.torch import understand_module
    from sdplip.nn.bounds.dispatch import lipschitz

    module = network_in(model, "float64")
    run(module, pixels(images.test.images[:1], "float64"))  # other images are refused in these words
    tree = lipschitz(module, input_shape=shape)
    network = understand_module(module, shape).network
    x, y = images.test.images[:IMAGES].numpy(), images.test.labels[:IMAGES].numpy()
    proof = propose_margins(network, method="product")
    try:
        arithmetic, n = "float64", _affordable(network, x, y, proof, "float64", seconds)
    except NotProvable:
        arithmetic, n = "exact", _affordable(network, x, y, proof, "exact", seconds)
    with image_bar("certifying") as watch:
        found = certify_graph(network, x[:n], y[:n], arithmetic=arithmetic, proof=proof, progress=watch)
    return Proven(tree, found, arithmetic, _attachments(network, found, x[:n], y[:n]))


def _affordable(
    network: "Network", x: np.ndarray, y: np.ndarray, proof: Proof, arithmetic: Arithmetic, seconds: float
) -> int:
    """How many images are certified in that time, by the first few of them."""
    took = []
    for n in (1, FIRST):
        begin = time.perf_counter()
        certify_graph(network, x[:n], y[:n], arithmetic=arithmetic, proof=proof)
        took.append(time.perf_counter() - begin)
    each = max((took[1] - took[0]) / (FIRST - 1), 1e-6)
    return max(1, min(len(x), max(FIRST, int(seconds / each))))


def _attachments(network: "Network", found: Certified, x: np.ndarray, y: np.ndarray) -> list[Attachment]:
    """The certificate of a Lipschitz bound and of every image, and what it is about."""
    from sdplip.bounds.methods.product import product_proof
    from sdplip.kernel.check import conclude

    proof = product_proof(network)
    claim = LipschitzClaim(conclude(Goal(network), proof))
    with tempfile.TemporaryDirectory() as place:
        home, packed = Path(place), BytesIO()
        write_network(home / NETWORK, network)
        entries = (Entry(claim.to_json(), proof), Entry(found.claim.to_json(), found.proof))
        document = Document(digest(home / NETWORK), {"kind": "network"}, entries)
        write(home / CERTIFICATE, document, version("sdplip"))
        np.savez_compressed(packed, images=x, labels=y)
        said = {
            CERTIFICATE: f"the proof: {claim.words()}; {found.claim.words()}",
            NETWORK: "the network that it is about, as plain numbers",
        }
        files = [Attachment(name, (home / name).read_bytes(), what) for name, what in said.items()]
    return [*files, Attachment(SAMPLES, packed.getvalue(), f"the {len(x)} images that it is about")]


def _curve(folder: Path, proven: Proven | None) -> Curve | None:
    """As `sdplip certify` left it, else of what was certified here."""
    here = None if proven is None else curve_of_certification(folder.name, proven.found.certification)
    if not (folder / RESULT).exists():
        return here
    left = read_run(folder).curve
    return left if proven is None or _of_these_weights(folder, proven.found.certification) else here


def _of_these_weights(folder: Path, certified: Certification) -> bool:
    """Whether the table of the run has the labels and predictions that these weights have at the first images."""
    with (folder / SAMPLES_TABLE).open(newline="", encoding="utf-8") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(certified.n), strict=False)]
    try:
        said = np.array([(int(row["label"]), int(row["predict"])) for row in rows])
    except (KeyError, ValueError):
        return False
    known = certified.prediction >= 0
    own = np.stack([certified.label, certified.prediction], 1)
    return said.shape == own.shape and bool((said == own)[known].all())


def _lead(folder: Path, curve: Curve | None, proven: Proven | None) -> list[str]:
    said = []
    if proven is not None:
        said.append(
            f"Proven: |f(x) - f(y)| <= {above(proven.tree.value, 9)} |x - y| for all inputs x, y (Euclidean norms)."
        )
    if curve is not None:
        at = "108/255" if curve.at("108/255") > 0 else "36/255"
        here = " (the first of the test split, certified for this report)"
        where = " (as sdplip certify left it in the run)" if curve.source else here
        said.append(
            f"Proven: of {curve.n} images{where}, {percent_below(curve.at(at))} are predicted right at every image within"
            f" {at}; {percent_below(curve.clean)} are right as they stand. Mean certified radius {below(curve.mean_radius, 5)}."
        )
        if curve.attacks:
            worst = curve.upper_side[-1]
            said.append(
                f"Not more than {percent_above(worst[1])} survive an attack of radius {worst[0]:.4g}: the truth lies between."
            )
    if not (folder / SUMMARY).exists():
        said.append(
            f"This run is not finished: these are the weights selected so far. Go on: sdplip train --resume {folder}"
        )
    return said or ["Nothing is proven here: the images of the run are missing."]


def _accuracy(folder: Path, curve: Curve | None, proven: Proven | None, missing: str) -> Node:
    if curve is None:
        return joined("", paragraph(f"No images, so nothing is certified: {missing}"))
    hint = None
    if not curve.source:
        hint = paragraph("The whole test split, and attacks: ", code(f"sdplip certify {folder} --attack pgd"), ", then this report again.")  # fmt: skip
    if proven is None:
        hint = paragraph(f"From the table of the run; the images are not here: {missing}")
    return joined("", radii_table(curve), certified_chart(curve), hint)


def _bound(proven: Proven) -> Node:
    certified = proven.found.certification
    whose = (
        "in exact arithmetic"
        if proven.arithmetic == "exact"
        else "as it computes in float64, rounding included"
    )
    rows = [
        ("Lipschitz bound of the network", above(proven.tree.value, 9)),
        ("largest constant of a margin", above(certified.margin_constant, 9)),
        ("radii of the certificate", f"{certified.n} images, the network {whose}"),
        ("mean radius of the certificate", below(certified.mean_radius, 6)),
    ]
    return joined("", facts(rows), bound_nodes(proven.tree))


def _training(folder: Path, config: "RunConfig") -> list[Section]:
    charts = training_charts(read_lines(folder))
    rows: list[tuple[str, Any]] = []
    if (folder / SUMMARY).exists():
        found = read_summary(folder)
        rows += [
            ("steps", f"{found.steps} ({found.epochs:.4g} epochs), weights of step {found.selected}"),
            ("time", f"{found.seconds:.4g} s, {found.images_per_second:.0f} images/s"),
        ]
        if found.proven_certified is not None and found.proven_clean is not None:
            rows.append((
                "validation split, proven",
                f"{percent_below(found.proven_clean)} right, {percent_below(found.proven_certified)} certified at {found.eps:.4g}",
            ))  # fmt: skip
    training = joined("", facts(rows), joined("figures", *charts), fold("Configuration", _tables(config)))
    return [Section("Training", training), Section("Environment", _environment(folder))]


def _tables(config: "RunConfig") -> Node:
    """Every key of the run file."""
    rows = [
        [f"{part}.{key}", str(value)]
        for part, section in dataclasses.asdict(config).items()
        if isinstance(section, dict)
        for key, value in section.items()
    ]
    return table(["key", "value"], rows, left=2)


def _environment(folder: Path) -> Node:
    try:
        document = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
        rows = [(f"{name} {key}" if key else name, str(value)) for name, key, value in _flat(document)]
    except (OSError, ValueError, AttributeError):
        return paragraph(f"The run holds no readable {ENVIRONMENT}.")
    return joined(
        "", facts(rows), tag("p", "Of the training; the report was made where it was called.", class_="soft")
    )


def _flat(document: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        (name, key, value)
        for name, part in document.items()
        for key, value in (part.items() if isinstance(part, dict) else [("", part)])
    ]
