"""Certificates of regions in pieces: they go to a file and back, and no tree that leaves something out is proven."""

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest

from sdplip.bounds import bound, split_bound
from sdplip.bounds.samples import largest_jacobian, value_and_jacobian
from sdplip.certificates.pieces_file import (
    Fork,
    leaves,
    load_pieces,
    pieces_record,
    save_pieces,
    verify_pieces,
)
from sdplip.certificates.region import Ball, Box, Cut
from sdplip.certificates.regions import halves, hull
from sdplip.certificates.system import Map
from sdplip.certificates.system_file import maps
from sdplip.errors import InvalidCertificate, InvalidProblem
from sdplip.networks import from_weights

pytestmark = pytest.mark.usefixtures("one_thread")
REGIONS = {
    "box": Box(np.full(3, -1.0), np.full(3, 0.5)),
    "ball": Ball(np.full(3, -0.2), 0.8),
    "cut": Cut(Ball(np.full(3, -0.2), 0.8), Box(np.full(3, -1.0), np.full(3, 0.1))),
}


def network():
    rng = np.random.default_rng(27)
    Ws = [rng.normal(size=(m, n)) for n, m in itertools.pairwise((3, 8, 8, 2))]
    return from_weights(Ws, "relu", [rng.normal(size=len(W)) for W in Ws])


@pytest.fixture(scope="module", params=REGIONS)
def found(request):
    return split_bound(network(), REGIONS[request.param], 6, "lipsdp-neuron")


def record(found):
    return pieces_record("net", found.claim, found.value, found.pieces, {"transpose": False})


def test_pieces_are_tighter_and_above_every_jacobian(found):
    net, region = network(), found.claim.region
    assert found.lower <= found.value < bound(net, "lipsdp-neuron", region=region).value
    assert largest_jacobian(found.claim.layers, 3, region) <= found.value * (1 + 1e-9)


def test_the_file_goes_there_and_back(tmp_path, found):
    path, matrices = tmp_path / "c.json", list(maps(found.claim.layers))
    save_pieces(path, record(found))
    entry = load_pieces(path)
    assert verify_pieces(entry, matrices).proven and entry.reading == {"transpose": False}
    moved = [Map(matrices[0].W, matrices[0].b + 1), *matrices[1:]]
    assert "SHA-256" in verify_pieces(entry, moved).reason
    text = json.loads(path.read_text())
    text["region"] = None
    path.write_text(json.dumps(text))
    with pytest.raises(InvalidCertificate, match="malformed"):
        load_pieces(path)


def test_the_leaves_cover_the_region(found):
    rng, region = np.random.default_rng(0), found.claim.region
    boxes = [box for box, _ in leaves(found.pieces, hull(region))]
    assert 2 <= len(boxes) <= 6
    for x in rng.uniform(*region.ends(), size=(300, 3)):
        assert any((box.lower <= x).all() and (x <= box.upper).all() for box in boxes)


def test_lies_are_refused(found):
    entry, matrices = record(found), list(maps(found.claim.layers))

    def check(**changed):
        return verify_pieces(dataclasses.replace(entry, **changed), matrices)

    assert check().proven
    assert "above" in check(bound=found.value * (1 - 1e-5)).reason
    fork = found.pieces[0]
    assert isinstance(fork, Fork)
    outside = dataclasses.replace(fork, at=float(hull(found.claim.region).upper[fork.axis]) + 1)
    for lie, reason in (
        (dataclasses.replace(fork, above=0), "hang together|not above"),
        (dataclasses.replace(fork, above=99), "hang together"),
        (dataclasses.replace(fork, below=-1), "hang together"),
        (dataclasses.replace(fork, axis=3), "coordinate 3"),
        (outside, "not above"),
        (None, "no proof"),
    ):
        result = check(tree=(lie, *found.pieces[1:]))
        assert not result.proven

        assert re.search(reason, result.reason), result.reason
    proofs = [i for i, node in enumerate(found.pieces) if node is not None and not isinstance(node, Fork)]
    worst = max(proofs, key=lambda i: found.pieces[i].bound)
    weak = dataclasses.replace(found.pieces[worst], multipliers=found.pieces[worst].multipliers * 1e-3)
    tree = (*found.pieces[:worst], weak, *found.pieces[worst + 1 :])
    assert "could not be proven" in check(tree=tree).reason
    with pytest.raises(InvalidProblem, match="not above"):
        halves(Box(np.zeros(2), np.ones(2)), 0, 2.0)


def test_nothing_is_left_of_a_corner():
    """Pieces of a ball's hull that do not meet the ball need no proof."""
    net, ball = network(), Ball(np.zeros(3), 1.0)
    many = split_bound(net, ball, 20, "riccati")
    assert verify_pieces(record(many), list(maps(many.claim.layers))).proven
    rng = np.random.default_rng(1)
    for v in rng.normal(size=(50, 3)):
        J = value_and_jacobian(many.claim.layers, v / np.linalg.norm(v))[1]
        assert np.linalg.norm(J, 2) <= many.value
