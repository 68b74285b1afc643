"""Radii from balls around images: larger, proven again by the kernel, not broken, and refused where anything is not as it was."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sdplip.errors import NotProvable
from sdplip.kernel.accuracy import radii
from sdplip.kernel.around import image_key
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Proof
from sdplip.network import Activation, Dense, chain
from sdplip.network.jacobian import derivative
from sdplip.robustness.around import BALLS, enlarge, largest_radius, refined_radius
from sdplip.robustness.graph_accuracy import certify_graph
from sdplip.verifier import document
from sdplip.verifier.images import Images
from tests.regional import groups, plain

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = {
    "relu": lambda n: Activation("relu", n),
    "maxmin": groups(2),
    "mish": lambda n: Activation("mish", n),
}


def images(network, count=6, bits=True):
    x = np.random.default_rng(4).integers(0, 256, size=(count, network.inputs)).astype(np.uint8)
    labels = network(x / 255).argmax(-1)
    labels[0] = (labels[0] + 1) % network.outputs  # one prediction is wrong
    return (x if bits else x / 255), labels


@pytest.fixture(
    scope="module", params=["relu exact", "relu float32", "maxmin exact", "mish exact", "relu numbers"]
)
def found(request):
    kind, how = request.param.split()
    network = plain(KINDS[kind], 9, 12, 12, 4, seed=3)
    x, labels = images(network, bits=how != "numbers")
    if how == "float32":
        network = chain(
            [
                Dense(n.op.W.astype(np.float32), n.op.b.astype(np.float32))
                if isinstance(n.op, Dense)
                else n.op
                for n in network.nodes
            ]
        )
    arithmetic = "float32" if how == "float32" else "exact"
    before = certify_graph(network, x, labels, arithmetic=arithmetic, method="product")
    return (
        network,
        x,
        before,
        enlarge(network, x, before, bent=0, lines=False),
        enlarge(network, x, before, lines=how == "numbers"),
    )


def test_no_radius_falls_and_most_grow(found):
    _, _, before, plain_, refined = found
    old, new, best = (one.certification.radius for one in (before, plain_, refined))
    assert (new >= old).all() and (best >= new * (1 - 1e-9)).all()
    sure = before.certification.correct & (old > 0)
    assert (new[~sure] == old[~sure]).all() and new[sure].mean() > 1.2 * old[sure].mean()
    assert best[sure].mean() > 1.005 * new[sure].mean()
    assert any(pair for pair in refined.proof.data["pairs"]), "pairs with multipliers of their own are tested"


def test_the_kernel_proves_them_again(found, tmp_path):
    network, x, _, *after = found
    for one in after:
        path = tmp_path / "c.json"
        entry = document.Entry(one.claim.to_json(), one.proof)
        document.write(path, document.Document("0" * 64, {}, (entry,)), "0")
        proof = document.read(path).entries[0].proof
        entering = Images(x, one.claim.label).entering(np.arange(len(x)), one.claim.arithmetic)
        again = radii(network, entering, proof, one.claim.arithmetic, conclude)
        assert (again.radius >= one.claim.radius).all() and (again.prediction == one.claim.prediction).all()


def test_attacks_do_not_break_them(found):
    network, x, _, _, after = found
    entering = Images(x, after.claim.label).entering(np.arange(len(x)), after.claim.arithmetic)
    able = False
    for image, label, radius in zip(entering, after.claim.prediction, after.claim.radius, strict=True):
        for far in (0.99999, 8.0) if radius > 0 else ():
            for j in set(range(network.outputs)) - {int(label)}:
                z = image.copy()
                for _ in range(30):
                    J = derivative(network, z).matrix()
                    z = z + (J[j] - J[label]) * 0.3 * radius / np.linalg.norm(J[j] - J[label])
                    away = z - image
                    z = image + away * min(1.0, far * radius / np.linalg.norm(away))
                broken = network(z).argmax() != label
                assert far > 1 or not broken
                able |= bool(broken)
    assert able, "the attack is able to break something"


def test_lies_are_refused(found):
    network, x, _, _, after = found
    entering = Images(x, after.claim.label).entering(np.arange(len(x)), after.claim.arithmetic)
    data, parts = dict(after.proof.data), after.proof.parts

    def check(parts=parts, **changed):
        return radii(
            network, entering, Proof("around", {**data, **changed}, parts), after.claim.arithmetic, conclude
        )

    honest = check().radius
    larger = data["radius"] * 1.5
    assert (
        check(radius=larger).radius <= honest
    ).all()  # not proven: the smaller radius of all inputs stands
    assert (check(pairs=[], parts=parts[:1]).radius <= honest).all()
    try:
        turned = check(images=data["images"][1:] + data["images"][:1]).radius
    except NotProvable:  # multipliers that do not fit
        turned = honest * 0
    assert (turned <= honest.max()).all()
    elsewhere = [image_key(row + 1e-9) for row in entering][: len(data["images"])]
    assert (check(images=elsewhere).radius <= honest).all() and check(
        images=elsewhere
    ).radius.sum() < honest.sum()
    for lie in (
        {"images": 3}, {"images": data["images"][:-1]}, {"radius": -data["radius"]}, {"radius": [np.nan] * len(larger)},
        {"pairs": [[0, 0]] * 99}, {"pairs": "ab"}, {"parts": ()}, {"images": [1] * len(larger)},
    ):  # fmt: skip
        with pytest.raises(NotProvable):
            check(**lie)
    if data["pairs"]:
        for pairs in (
            [[99, 0], *data["pairs"][1:]],
            [[0, 99], *data["pairs"][1:]],
            [[0.5, 0], *data["pairs"][1:]],
            [[0], *data["pairs"][1:]],
        ):
            with pytest.raises(NotProvable):
                check(pairs=pairs)
    json.dumps(document.plain(after.proof.data))


def test_radii_are_those_of_margins_over_constants():
    """Far from every kink a ReLU network is linear, and its radius is the margin over the gradient's length."""
    W1, W2 = np.diag([2.0, 1]), np.array([[3.0, 0], [0, 4], [0, 0]])
    network = chain([Dense(W1, np.full(2, 10.0)), Activation("relu", 2), Dense(W2)])
    before = certify_graph(network, np.zeros((1, 2)), np.array([1]), arithmetic="exact", method="product")
    assert before.claim.radius[0] == pytest.approx(1, rel=0.01)  # 40 - 30 over 2 times |(-3, 4)|
    after = enlarge(network, np.zeros((1, 2)), before)
    assert after.claim.radius[0] == pytest.approx(10 / 52**0.5, rel=0.01)  # 10 - 6 x1 + 4 x2


def test_nothing_larger_leaves_the_certificate_as_it_is():
    network = chain([Dense(np.eye(3))])
    before = certify_graph(network, np.eye(3), np.arange(3), arithmetic="exact", method="product")
    after = enlarge(network, np.eye(3), before, bent=0)
    assert after.proof is before.proof or (after.claim.radius >= before.claim.radius).all()
    wrong = replace(before, claim=replace(before.claim, index=np.arange(2)))
    with pytest.raises(Exception, match="images"):
        enlarge(network, np.eye(3), wrong)


@pytest.mark.parametrize("start", [1e-3, 0.3, 0.999])
@pytest.mark.parametrize("shape", ["falling", "flat", "steep"])
def test_the_search_finds_where_ball_and_radius_are_equal(start, shape):
    value = {
        "falling": lambda R: 2 / (1 + R),
        "flat": lambda R: 1.0 + 0 * R,
        "steep": lambda R: 1.0 if R <= 1 else 1 / (1 + 20 * (R - 1)),
    }[shape]
    best, tried = largest_radius(value, start)
    assert start <= best <= 1 + 1e-12 and tried <= BALLS
    assert best >= 0.97


def test_a_search_without_success_keeps_the_start():
    assert largest_radius(lambda R: 0.0 * R, 0.5) == (0.5, 1)
    assert largest_radius(lambda _: np.inf, 1.0)[0] <= 2.0**20
    assert largest_radius(lambda _: np.nan, 0.5)[0] == 0.5


def test_refined_search_goes_up_and_never_down():
    best, tried = refined_radius(lambda R: 2 / (1 + R), 0.9)
    assert 0.98 <= best <= 1 + 1e-12 and tried <= BALLS
    assert refined_radius(lambda _: 0.0, 0.5) == (0.5, 1)
    assert refined_radius(lambda _: np.nan, 0.5)[0] == 0.5
    assert refined_radius(lambda _: np.inf, 1.0)[0] > 1
