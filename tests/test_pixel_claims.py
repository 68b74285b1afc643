"""Claims about pixels: by hand, beside `certify_dense`, through a file, and what a forger might write."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidCertificate, InvalidProblem, NotProvable, UnreadableFile
from sdplip.kernel.check import conclude
from sdplip.kernel.pixels import pixel_constants, pixels_left
from sdplip.kernel.proof import Proof
from sdplip.network import Activation, Dense, Network, OnAxis, chain
from sdplip.network.graph import Node
from sdplip.network.read.anything import understand
from sdplip.nn import ResidualConv2d
from sdplip.robustness.dense import certify_dense
from sdplip.robustness.graph_accuracy import images_file, network_file
from sdplip.robustness.graph_dense import certify_dense_graph, propose_pixels
from sdplip.verifier.claim import claim_of
from sdplip.verifier.document import plain
from sdplip.verifier.images import Images, read_images, read_masks
from sdplip.verifier.main import main
from sdplip.verifier.verify import check_pixels, verify
from tests.forge.truth import fewest

pytestmark = pytest.mark.usefixtures("one_thread")


def pointwise(W, pixels, b=None) -> Network:
    """One matrix at every pixel of a row of pixels."""
    op = OnAxis(np.array(W, float), 1, pixels, b)
    return Network((op.W.shape[1], pixels), (Node(op, (0,), (len(op.W), pixels)),))


def segmenter(classes, head):
    """Its logits are centred, so that every class is predicted somewhere."""
    torch.manual_seed(3)
    last = nn.Conv2d(4, classes, 1) if head else nn.Conv2d(4, classes, 3, padding=1)
    model = (
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), ResidualConv2d(4, 8, 3), nn.ReLU(), last).double().eval()
    )
    with torch.no_grad():
        last.bias -= model(torch.rand(8, 1, 6, 5).double()).mean((0, 2, 3))
    return model


def certified(model, x, masks, eps, ignore=None):
    network = understand(model, input_shape=(1, 6, 5)).network
    return certify_dense_graph(
        network, x, masks, eps, ignore=ignore, proof=propose_pixels(network, method="product")
    )


@pytest.fixture(scope="module")
def case():
    """A trained-like segmenter, images, masks that are mostly right with a label that does not count."""
    model, rng = segmenter(3, True), np.random.default_rng(0)
    x = rng.random((3, 1, 6, 5))
    with torch.no_grad():
        masks = model(torch.from_numpy(x)).argmax(1).numpy()
    masks[:, 0, :2], masks[:, 3, 3] = 255, (masks[:, 3, 3] + 1) % 3
    return model, x, masks


def test_by_hand():
    """f = 2 x at four pixels: costs 3, 4, 6, and one that is wrong. A change of 5 pays for 3 and 4, a smaller one does not."""
    network, x = pointwise([[2.0]], 4), np.array([[3.0, 4.0, -6.0, 1.0]])
    found = certify_dense_graph(network, x, np.array([[1, 1, 0, 0]]), (0, 2.9, 3.1, 4.99, 5.01, 7.8, 8))
    assert [int(claim.right[0]) for claim in found.claims] == [3, 3, 2, 2, 1, 1, 0]
    assert found.accuracy(3.1) == 0.5 and found.claims[0].pixels.tolist() == [4]


def test_constants_of_a_head_by_hand():
    """Rows (3, 0) and (0, 4) are 5 apart: a margin of 10 costs 2, and another matrix a pixel is no head."""
    network = pointwise([[3.0, 0.0], [0.0, 4.0]], 2)
    x, labels = np.array([[10 / 3, 0.0, 0.0, 0.25]]), np.array([[0, 1]])
    proof = propose_pixels(network)
    L = pixel_constants(network, proof, conclude)
    assert proof.data["cut"] == 0 and L[0, 1] == L[1, 0] == pytest.approx(5) and L[0, 1] >= 5
    left = [int(pixels_left(network, x, labels, eps, proof, conclude)[0]) for eps in (0.19, 0.21, 1.99, 2.02)]
    assert left == [2, 1, 1, 0]


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("classes", [1, 3])
def test_beside_the_layers_of_torch(classes, head):
    """No fewer than `certify_dense` says, and changes by chance leave no fewer than claimed."""
    model, rng = segmenter(classes, head), np.random.default_rng(1)
    x, masks = rng.random((2, 1, 6, 5)), rng.integers(0, max(classes, 2), (2, 6, 5))
    own = certify_dense(model, torch.from_numpy(x), torch.from_numpy(masks), scope="exact")
    found = certified(model, x, masks, (0, 0.02, 0.1))
    assert found.proof.data["cut"] == (
        len(found.understood.network.nodes) - 1 if head and classes > 1 else found.understood.network.output
    )
    for claim in found.claims:
        assert claim.accuracy() >= own.accuracy(claim.eps) - 1e-12, "the kernel knows no worse constant here"
        d = rng.standard_normal((50, *x.shape))
        d *= claim.eps / np.sqrt(np.square(d).sum((2, 3, 4), keepdims=True))
        for change in d:
            with torch.no_grad():
                s = model(torch.from_numpy(x + change)).numpy()
            now = s.argmax(1) if classes > 1 else (s[:, 0] > 0).astype(int)
            assert ((now == masks).sum((1, 2)) >= claim.right).all()
    assert found.claims[0].right.sum() > found.claims[-1].right.sum(), (
        "a test in which nothing flips shows nothing"
    )


def test_a_file_that_the_verifier_proves(case, tmp_path, capsys):
    model, x, masks = case
    path = tmp_path / "pixels.json"
    found = certified(model, x, masks, (0, "1/20"), 255)
    found.save(path)
    graph, data = network_file(path), images_file(path)
    files = [str(path), str(graph), str(data)]
    assert verify(path, graph, data).proven
    assert main(files) == 0 and main([files[0], "--show"]) == 0
    said, share = capsys.readouterr().out, found.accuracy("1/20")
    assert "after any change of each image of length 0.05 or less, all its pixels together" in said
    assert "PROVEN AGAIN: of 84 pixels of 3 images" in said and 0 < share < found.accuracy(0) < 1
    assert not verify(path, graph).proven, "it needs the images"
    for changed in ({"images": x + 1e-9, "masks": read_masks(data)}, {"images": x, "masks": masks % 3}):
        np.savez(tmp_path / "changed.npz", **changed)
        (first, _) = verify(path, graph, tmp_path / "changed.npz").claims
        assert not first.proven and "SHA-256 differs" in first.reason
    np.savez(tmp_path / "changed.npz", images=x, labels=np.zeros(3, int))
    assert "not `masks`" in verify(path, graph, tmp_path / "changed.npz").claims[0].reason


def test_forged_counts_and_lengths_are_refuted(case):
    model, x, masks = case
    found = certified(model, x, masks, (0.05,), 255)
    (claim,), network = found.claims, found.understood.network
    more, fewer, less = claim.right.copy(), claim.pixels - 1, claim.right - 1
    more[1] += 1

    def judged(claim, proof=found.proof):
        return check_pixels(claim, proof, network, Images(x, None), found.masks, None)

    assert judged(claim)[0] and judged(replace(claim, right=less))[0]
    assert judged(replace(claim, eps=0.04))[0], "less is claimed of a shorter change"
    for forged in (replace(claim, right=more), replace(claim, pixels=fewer), replace(claim, eps=0.5)):
        proven, reason = judged(forged)
        assert not proven and "right pixels of" in reason
    swapped = replace(claim, mask=claim.mask[::-1])
    assert judged(swapped) == (
        False,
        "the masks of the images are not those of the claim (a SHA-256 differs)",
    )
    inner = found.proof.parts[0]
    for rule, data, parts in (
        ("margins", found.proof.data, (inner,)), ("least", {}, (found.proof, found.proof)), ("pixels", {"cut": 1}, (inner,)),
        ("pixels", {"cut": network.output}, (inner,)), ("pixels", {"cut": 99}, (inner,)), ("pixels", found.proof.data, ()),
    ):  # fmt: skip
        with pytest.raises(NotProvable):
            judged(claim, Proof(rule, data, parts))


def test_malformed_claims(case):
    model, x, masks = case
    (claim,) = certified(model, x, masks, (0.05,), 255).claims
    body = json.loads(json.dumps(plain(claim.to_json())))
    assert plain(claim_of(body).to_json()) == body
    for wrong in (
        {"eps": -0.1}, {"eps": "0.1"}, {"index": [0, 0, 1]}, {"right": [1, 2]}, {"right": [28, 99, 0]}, {"pixels": [0, 0, 0]},
        {"mask": []}, {"right": [1.0, 2, 3]}, {"arithmetic": "exact"},
    ):  # fmt: skip
        with pytest.raises(InvalidCertificate):
            claim_of({**body, **wrong})


def test_what_has_no_pixels_or_does_not_fit_is_refused(tmp_path):
    flat = chain([Dense(np.eye(4)), Activation("relu", 4)])
    with pytest.raises(NotProvable, match="without pixels"):
        certify_dense_graph(flat, np.zeros((1, 4)), np.zeros((1, 4), int), (0.1,))
    network, x = pointwise([[2.0]], 4), np.zeros((1, 4))
    for masks, eps, ignore, match in (
        (np.zeros((1, 3), int), (0.1,), None, "whole numbers of shape"), (np.zeros((1, 4)), (0.1,), None, "whole numbers of shape"),
        (np.full((1, 4), 2), (0.1,), None, "classes between 2 and 2"), (np.full((1, 4), 7), (0.1,), 7, "No pixel counts"),
        (np.zeros((1, 4), int), (), None, "at least one length"), (np.zeros((1, 4), int), ("x",), None, "number or a fraction"),
    ):  # fmt: skip
        with pytest.raises(InvalidProblem, match=match):
            certify_dense_graph(network, x, masks, eps, ignore=ignore)
    with pytest.raises(InvalidProblem, match="do not fit a network of 4 inputs"):
        certify_dense_graph(network, np.zeros((1, 5)), np.zeros((1, 4), int), (0.1,))
    np.savez(tmp_path / "m.npz", masks=np.full((1, 4), -2))
    with pytest.raises(UnreadableFile, match="no classes"):
        read_masks(tmp_path / "m.npz")
    np.save(tmp_path / "m.npy", np.zeros((1, 4)))
    assert read_images(tmp_path / "m.npy").labels is None and read_images(tmp_path / "m.npy").x.shape == (
        1,
        4,
    )
    with pytest.raises(UnreadableFile, match="must hold `masks`"):
        read_masks(tmp_path / "m.npy")


def test_bytes_and_unsigned_masks(tmp_path):
    """Bytes are divided by 255; 255 in a mask of bytes does not count."""
    network, x = pointwise([[2.0]], 3, np.full(3, -1.0)), np.array([[0, 255, 128]], np.uint8)
    found = certify_dense_graph(network, x, np.array([[0, 1, 255]], np.uint8), (0.49, 0.6), ignore=255)
    assert [claim.right.tolist() for claim in found.claims] == [[2], [1]]
    found.save(tmp_path / "c.json")
    path = tmp_path / "c.json"
    assert verify(path, network_file(path), images_file(path)).proven


def test_the_judge_of_forged_claims_finds_what_is_attained():
    """f = 2 x by hand: changes that flip as many pixels as the sum of squares allows, found without the kernel."""
    x, mask = np.array([3.0, 4.0, -6.0, 1.0]), np.array([1, 1, 0, 0])
    lengths = (2.9, 3.1, 4.99, 5.01, 7.8, 8)
    assert [fewest(lambda z: 2 * z, x, mask, eps) for eps in lengths] == [3, 2, 2, 1, 1, 0]
