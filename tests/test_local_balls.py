"""Images certified at given radii by balls of their own: more than constants certify, proven again from the file, never above an attack."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sdplip.errors import InvalidProblem
from sdplip.kernel.accuracy import known_margins, radii, remembering, value_constants
from sdplip.kernel.around import Surroundings
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Proof
from sdplip.network import Activation, Dense, chain
from sdplip.robustness.around import enlarge
from sdplip.robustness.attacks import pgd_l2
from sdplip.robustness.graph_accuracy import certify_graph
from sdplip.robustness.graph_module import GraphModule
from sdplip.robustness.local_balls import PROOFS, certify_balls
from sdplip.robustness.offset_splits import seconds_more
from sdplip.robustness.offsets import Asked, Offsets
from sdplip.verifier import document
from sdplip.verifier.images import Images
from tests.regional import groups, plain
from tests.test_spread import images as convolutional

pytestmark = pytest.mark.usefixtures("one_thread")
RADII = ("1/20", "0.5")
KINDS = {
    "relu": lambda: plain(lambda n: Activation("relu", n), 9, 12, 12, 4, seed=3),
    "maxmin": lambda: plain(groups(2), 9, 12, 12, 4, seed=3),
    "images": convolutional,
    "tanh": lambda: plain(lambda n: Activation("tanh", n), 9, 12, 4, seed=3),
}


@pytest.fixture(
    scope="module", params=["relu exact", "relu float64", "maxmin exact", "images float64", "tanh exact"]
)
def found(request):
    kind, arithmetic = request.param.split()
    network = KINDS[kind]()
    x = np.random.default_rng(4).integers(0, 256, size=(5, network.inputs)).astype(np.uint8)
    labels = network(x / 255).argmax(-1)
    labels[0] = (labels[0] + 1) % network.outputs  # one prediction is wrong
    before = certify_graph(network, x, labels, arithmetic=arithmetic, method="product")
    return kind, network, x, certify_balls(network, x, before, RADII, seconds=0.2)


def entering(x, claim):
    return Images(x, claim.label).entering(np.arange(len(x)), claim.arithmetic)


def test_more_is_certified_and_said_by_what(found):
    kind, _, _, balls = found
    before, after = balls.before.certification, balls.after.certification
    assert (after.radius >= before.radius).all() and after.radius[0] == before.radius[0]
    for eps, names in balls.by.items():
        assert [name != "" for name in names] == after.certified_at(eps).tolist()
        assert set(names) <= {"", *PROOFS}
    assert sum(map(after.certified, RADII)) > sum(map(before.certified, RADII))
    assert bool(balls.unfit) == (kind == "tanh")
    counts = balls.to_json()["by"]["0.5"]
    assert sum(counts.values()) == sum(name != "" for name in balls.by["0.5"])
    assert kind == "tanh" or any("offsets" in names for names in balls.by.values())


def test_the_file_proves_it_again(found, tmp_path):
    _, network, x, balls = found
    claim, proof = balls.after.claim, balls.after.proof
    path = tmp_path / "c.json"
    document.write(path, document.Document("0" * 64, {}, (document.Entry(claim.to_json(), proof),)), "0")
    again = radii(
        network, entering(x, claim), document.read(path).entries[0].proof, claim.arithmetic, conclude
    )
    assert (again.radius >= claim.radius).all() and (again.prediction == claim.prediction).all()


def test_no_attack_breaks_it(found):
    _, network, x, balls = found
    claim = balls.after.claim
    for eps in RADII:
        sure = balls.after.certification.certified_at(eps)
        if not sure.any():
            continue
        z, y = torch.from_numpy(entering(x, claim)[sure]), torch.from_numpy(claim.label[sure])
        moved = pgd_l2(
            GraphModule(network),
            z,
            y,
            balls.after.certification.radius[sure].min(initial=9.0),
            box=None,
            steps=30,
        )
        assert (network(moved.numpy()).argmax(-1) == claim.label[sure]).all()


def test_tampering_proves_nothing_more(found):
    """Other slopes, scalars or cuts give another bound; a larger radius, or another image's proof, the one of all inputs."""
    kind, network, x, balls = found
    claim, proof = balls.after.claim, balls.after.proof
    least = balls.before.claim.radius
    if kind == "tanh":
        return

    def check(proof):
        return radii(network, entering(x, claim), proof, claim.arithmetic, conclude).radius

    def changed(part):
        if part.rule == "split":
            return replace(part, parts=tuple(map(changed, part.parts)))
        if part.rule != "offset":
            return part
        return Proof(
            "offset",
            {**part.data, "slopes": [1e3 - s for s in part.data["slopes"]], "scale": 0 * part.data["scale"]},
        )

    assert (check(proof) >= claim.radius).all()
    bent = check(replace(proof, parts=tuple(map(changed, proof.parts))))
    assert ((bent == claim.radius) | (bent == least)).all() and (bent < claim.radius).any()
    farther = check(replace(proof, data={**proof.data, "radius": 100 * np.asarray(proof.data["radius"])}))
    attacked = balls.after.certification.correct & (farther > claim.radius)
    assert not attacked.any()
    empty = replace(proof, parts=(proof.parts[0], *(Proof("offset", {}) for _ in proof.parts[1:])))
    assert (check(empty) <= claim.radius).all()


def test_splits_certify_what_is_left():
    """Near the largest radius that PGD leaves, lines alone are not enough."""
    network = KINDS["relu"]()
    x = np.random.default_rng(4).integers(0, 256, size=(4, 9)).astype(np.uint8)[[1, 3]]
    labels = network(x / 255).argmax(-1)
    before = certify_graph(network, x, labels, arithmetic="exact", method="product")
    radius = ("1.6",)
    none, some = (certify_balls(network, x, before, radius, seconds=seconds) for seconds in (0.0, 5.0))
    assert some.after.certification.certified("1.6") > none.after.certification.certified("1.6")
    assert "splits" in some.by["1.6"] and "splits" not in none.by["1.6"]
    rules = {part.rule for part in some.after.proof.parts}
    assert "split" in rules
    claim = some.after.claim
    again = radii(network, entering(x, claim), some.after.proof, "exact", conclude)
    assert (again.radius >= claim.radius).all()


def test_what_an_attack_decides_is_left_alone():
    """Far balls hold another class, which a point of them shows; near ones do not."""
    network = KINDS["relu"]()
    x = np.random.default_rng(4).uniform(size=(3, 9))
    before = certify_graph(network, x, network(x).argmax(-1), arithmetic="exact", method="product")
    prove = remembering(before.proof)
    offsets = Offsets(Surroundings(network, value_constants(network, before.proof, prove)))
    known = known_margins(network, x, before.proof, "exact", prove)
    for radius, refuted in ((100.0, True), (float(before.claim.radius.min()) / 2, False)):
        asked = [Asked(row, one, radius, (0,)) for row, one in zip(x, known, strict=True)]
        assert offsets.refuted(asked) == [refuted] * 3
    assert certify_balls(network, x, before, ["100"], seconds=60.0).by["100"] == ("",) * 3


def test_the_pace_of_splits():
    """Half a margin at a quarter a doubling is one doubling at twice the pace; what wins nothing never ends."""
    assert seconds_more(-0.5, 0.25, 3.0) == 3.0 and seconds_more(-1.0, 0.25, 3.0) == 9.0
    assert seconds_more(-0.5, 0.0, 3.0) > 1e18


def test_other_images_are_refused(found):
    _, network, x, balls = found
    with pytest.raises(InvalidProblem, match="are not the 5"):
        certify_balls(network, x[:3], balls.before, RADII)


def test_a_network_without_activations():
    """Lines are exact there: the radius is the margin over the distance of two rows."""
    network = chain([Dense(np.eye(3))])
    before = certify_graph(network, np.eye(3), np.arange(3), arithmetic="exact", method="product")
    after = enlarge(network, np.eye(3), before, bent=0)
    assert after.claim.radius == pytest.approx(np.full(3, 0.5**0.5), rel=1e-6)
