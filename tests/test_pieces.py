"""Regions in pieces: tighter, above every Jacobian, and no tree that leaves something out is proven."""

import numpy as np
import pytest

from sdplip.bounds.below import estimate_lower
from sdplip.bounds.choose import bound
from sdplip.bounds.regional import split_bound
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.regions import Ball, Box, Cut, halves
from sdplip.kernel.rules.cut import pieces
from sdplip.network import Activation
from sdplip.network.jacobian import derivative
from tests.regional import plain

pytestmark = pytest.mark.usefixtures("one_thread")
REGIONS = {
    "box": Box(np.full(3, -1.0), np.full(3, 0.5)),
    "ball": Ball(np.full(3, -0.2), 0.8),
    "cut": Cut(Ball(np.full(3, -0.2), 0.8), Box(np.full(3, -1.0), np.full(3, 0.1))),
}
NETWORK = plain(lambda n: Activation("relu", n), 3, 6, 5, 2, seed=27)


@pytest.fixture(scope="module", params=REGIONS)
def found(request):
    return split_bound(NETWORK, REGIONS[request.param], 4, "lipsdp-neuron")


def test_pieces_are_tighter_and_above_every_jacobian(found):
    region = found.goal.region
    assert found.lower <= found.bound < bound(NETWORK, "lipsdp-neuron", region=region).bound
    assert estimate_lower(NETWORK, region) <= found.bound * (1 + 1e-9)
    assert conclude(found.goal, found.proof) == found.bound


def test_the_pieces_cover_the_region(found):
    rng, region = np.random.default_rng(0), found.goal.region
    parts = [*pieces(region, tuple(found.proof.data["axis"]), found.proof.data["at"])]
    assert 2 <= len(parts) <= 4
    for x in rng.uniform(*region.ends(), size=(300, 3)):
        if isinstance(region, Box) or np.linalg.norm(x + 0.2) <= 0.8:
            boxes = [piece.box if isinstance(piece, Cut) else piece for piece in parts]
            assert any((box.lower <= x).all() and (x <= box.upper).all() for box in boxes)


def test_lies_are_refused(found):
    axis, at, parts = list(found.proof.data["axis"]), found.proof.data["at"].tolist(), list(found.proof.parts)

    def check(axis=axis, at=at, parts=parts):
        return conclude(found.goal, Proof("cut", {"axis": axis, "at": at}, tuple(parts)))

    assert check() == found.bound
    outside = float(found.goal.region.ends()[1][axis[0]]) + 1
    leaf = next(k for k, a in enumerate(axis) if a == -1)
    empty = [*axis[:leaf], -2, *axis[leaf + 1 :]]
    for lie, reason in (
        ({"at": [outside, *at[1:]]}, "not above"),
        ({"at": [np.nan, *at[1:]]}, "finite"),
        ({"axis": [3, *axis[1:]]}, "whole"),
        ({"axis": [-3, *axis[1:]]}, "whole"),
        ({"axis": [0.0, *axis[1:]]}, "whole"),
        ({"axis": axis[:-1], "at": at[:-1]}, "ends before|more proofs|no proof"),
        ({"axis": [*axis, -1], "at": [*at, 0.0]}, "goes on"),
        ({"at": at[:-1]}, "shape"),
        ({"axis": [], "at": []}, "nodes"),
        ({"axis": "0", "at": [0.0]}, "whole"),
        ({"axis": empty, "parts": parts[1:]}, "may not be"),
        ({"parts": parts[:-1]}, "no proof"),
        ({"parts": [*parts, parts[0]]}, "more proofs"),
        ({"axis": [-1], "at": [0.0], "parts": [Proof("cut", {"axis": [-1], "at": [0.0]})]}, "no proof"),
    ):
        with pytest.raises(NotProvable, match=reason):
            check(**lie)
    for goal in (Goal(NETWORK), Goal(NETWORK, Ball(np.zeros(2), 1.0))):
        with pytest.raises(NotProvable, match="needs a region"):
            conclude(goal, found.proof)
    for k in range(len(axis)):  # another cut is another statement: its bound is that of its own pieces
        moved = [v + 0.05 * (i == k) for i, v in enumerate(at)]
        try:
            value = check(at=moved)
        except NotProvable:
            continue
        assert value >= found.lower
    with pytest.raises(InvalidProblem, match="not above"):
        halves(Box(np.zeros(2), np.ones(2)), 0, 2.0)


def test_nothing_is_left_of_a_corner():
    """Pieces of a ball's hull that do not meet the ball need no proof."""
    many = split_bound(NETWORK, Ball(np.zeros(3), 1.0), 12, "riccati")
    assert conclude(many.goal, many.proof) == many.bound
    rng = np.random.default_rng(1)
    for v in rng.normal(size=(50, 3)):
        J = derivative(NETWORK, v / np.linalg.norm(v)).matrix()
        assert np.linalg.norm(J, 2) <= many.bound
    ball, corner = Ball(np.zeros(2), 1.0), ((0, 1, -1, -1, -1), np.array([0.8, 0.8, 0, 0, 0]))
    assert len([*pieces(ball, *corner)]) == 3
    with pytest.raises(NotProvable, match="may not be"):
        [*pieces(ball, (0, -2, -1), np.array([0.99, 0, 0]))]
    corner = (0, 1, -1, -1, 1, -1, -2), np.array([0.8, 0.8, 0, 0, 0.8, 0, 0])
    assert len([*pieces(ball, *corner)]) == 3


def test_outputs_and_pairs():
    region = REGIONS["box"]
    for options in ({"output_norm": "linf"}, {"output_pair": (0, 1)}):
        one, cut = (split_bound(NETWORK, region, count, "riccati", **options) for count in (1, 4))
        assert cut.bound <= one.bound and conclude(cut.goal, cut.proof) == cut.bound
    for count in (0, 10**9):
        with pytest.raises(InvalidProblem, match="pieces"):
            split_bound(NETWORK, region, count)
    point = Box(np.zeros(3), np.zeros(3))
    assert split_bound(NETWORK, point, 4, "riccati").bound == bound(NETWORK, "riccati", region=point).bound


def test_bits_of_a_certificate_go_there_and_back(tmp_path, found):
    from sdplip.verifier import document
    from sdplip.verifier.claim import LipschitzClaim, claim_of

    claim = LipschitzClaim(found.bound, (), "l2", found.goal.region)
    path = tmp_path / "c.json"
    document.write(
        path, document.Document("0" * 64, {}, (document.Entry(claim.to_json(), found.proof),)), "0"
    )
    entry = document.read(path).entries[0]
    back = claim_of(entry.claim)
    assert isinstance(back, LipschitzClaim)
    assert conclude(back.goal(NETWORK), entry.proof) == found.bound
