"""Wrong inputs of the Python functions: each gets one sentence of ours that names the argument."""

import numpy as np
import pytest
import torch
from torch import nn

import sdplip
from sdplip.errors import SdplipError
from sdplip.hub import push_to_hub, save_to_folder
from sdplip.nn import BiLipschitz, DeepResidualLinear, lower_lipschitz, orthogonal
from sdplip.nn.given import count, floats, module, number, one_of, tensor
from sdplip.nn.propagate import Propagate
from sdplip.nn.shifted import PositionalBias, Shift2d
from sdplip.robustness.conformal import calibrate, robust_sets
from sdplip.robustness.dense import certify_dense
from sdplip.robustness.descent import minimise
from sdplip.robustness.embedding import embed
from sdplip.robustness.fields import safe_margin
from sdplip.robustness.fixed_point import fixed_point
from sdplip.robustness.graphs import node_radii
from sdplip.robustness.inversion import inverse
from sdplip.robustness.radii import certified_radius, class_radii
from sdplip.robustness.similarity import anchored_radius, angle_radius
from sdplip.training.data import load_arrays

LOGITS, LABELS, X = np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([0, 1]), torch.ones(2, 4)
FIELD = nn.Sequential(nn.Linear(2, 1)).eval()
LAYER = nn.Sequential(nn.Linear(4, 4)).eval()
GRAPH = nn.Sequential(nn.Linear(4, 2), Propagate(torch.eye(5))).eval()
PIXELS = nn.Sequential(nn.Conv2d(1, 2, 1)).eval()
IMAGES, MASKS = torch.rand(1, 1, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long)
ODD = [None, "abc", {}, [[1.0, 2.0], [3.0]], np.zeros((0, 3)), 1j * np.ones((2, 2)), object()]

CALLS = {
    "class_radii": (lambda v: class_radii(v, 1.0), "logits"),
    "certified_radius": (lambda v: certified_radius(v, 1.0), "logits"),
    "class_radii lost": (lambda v: class_radii(LOGITS, 1.0, lost=v), "lost"),
    "class_radii constants": (lambda v: class_radii(LOGITS, v), "pairwise"),
    "anchored_radius": (lambda v: anchored_radius(v, LOGITS, LABELS, 1.0), "queries"),
    "anchored_radius constant": (lambda v: anchored_radius(LOGITS, LOGITS, LABELS, v), "constant"),
    "anchored_radius error": (lambda v: anchored_radius(LOGITS, LOGITS, LABELS, 1.0, error=v), "error"),
    "angle_radius": (lambda v: angle_radius(LOGITS, LOGITS, v, 1.0), "cosine"),
    "fixed_point": (lambda v: fixed_point(LAYER, v), "start"),
    "fixed_point tolerance": (lambda v: fixed_point(LAYER, X, 0.5, tolerance=v), "tolerance"),
    "fixed_point f": (lambda v: fixed_point(v, X, 0.5), "f"),
    "safe_margin": (lambda v: safe_margin(FIELD, v, 0.1), "surface"),
    "safe_margin field": (lambda v: safe_margin(v, X[:, :2], 0.1), "model"),
    "safe_margin radius": (lambda v: safe_margin(FIELD, X[:, :2], v), "covering_radius"),
    "node_radii": (lambda v: node_radii(GRAPH, v), "features"),
    "node_radii attacked": (lambda v: node_radii(GRAPH, torch.ones(5, 4), attacked=v), "attacked"),
    "node_radii scope": (lambda v: node_radii(GRAPH, torch.ones(5, 4), scope=v), "scope"),
    "minimise": (lambda v: minimise(lambda z: z.sum(1), v, 0.1), "x"),
    "minimise margin": (lambda v: minimise(v, X, 0.1), "margin"),
    "minimise eps": (lambda v: minimise(lambda z: z.sum(1), X, v), "eps"),
    "minimise steps": (lambda v: minimise(lambda z: z.sum(1), X, 0.1, steps=v), "steps"),
    "robust_sets": (lambda v: robust_sets(LOGITS, v), "threshold"),
    "calibrate": (lambda v: calibrate(LOGITS, v), "labels"),
    "load_arrays": (lambda v: load_arrays(v), "name"),
    "Propagate": (Propagate, "matrix"),
    "orthogonal": (orthogonal, ""),
    "orthogonal method": (lambda v: orthogonal(nn.Conv2d(2, 2, 3), "" if v is None else v), "method"),
    "Shift2d": (lambda v: Shift2d(v, 1), "channels"),
    "PositionalBias": (PositionalBias, "image_size"),
    "DeepResidualLinear": (lambda v: DeepResidualLinear(4, v), "hidden"),
    "DeepResidualLinear h": (lambda v: DeepResidualLinear(4, [4], h=v), "h"),
    "BiLipschitz": (lambda v: BiLipschitz(v, 1, 2), "inner"),
    "BiLipschitz mu": (lambda v: BiLipschitz(LAYER, v, 2), "mu"),
    "lower_lipschitz": (lower_lipschitz, "module"),
    "inverse": (lambda v: inverse(v, X), "f"),
    "inverse values": (lambda v: inverse(nn.Identity(), v), "y"),
    "inverse lower": (lambda v: inverse(nn.Identity(), X, "a" if v is None else v), "lower"),
    "push_to_hub": (
        lambda v: push_to_hub("run", "a b" if v is None or isinstance(v, str) else v),
        "repository",
    ),
    "certify_dense": (lambda v: certify_dense(v, IMAGES, MASKS), "model"),
    "certify_dense masks": (lambda v: certify_dense(PIXELS, IMAGES, v), "masks"),
    "certify_dense scope": (lambda v: certify_dense(PIXELS, IMAGES, MASKS, scope=v), "scope"),
    "certify_dense precision": (lambda v: certify_dense(PIXELS, IMAGES, MASKS, precision=v), "precision"),
    "certify_accuracy scope": (lambda v: sdplip.certify_accuracy(LAYER, X, LABELS, scope=v), "scope"),
    "embed": (lambda v: embed(LAYER, X, scope=v), "scope"),
    "train": (lambda v: sdplip.train("digits-sll", "run", model=v or "abc"), "model"),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_wrong_input_gets_a_sentence_about_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, argument = CALLS[name]
    refused = 0
    for value in ODD:
        if name in ("class_radii", "certified_radius") and isinstance(value, np.ndarray) and not value.size:
            continue  # no samples have no radii
        if name == "train" and isinstance(value, np.ndarray):
            continue
        with pytest.raises(SdplipError) as found:
            call(value)
        text = str(found.value)
        refused += f"`{argument}`" in text or not argument
        assert text.endswith(".") and "\n" not in text, text
    assert refused >= len(ODD) - 3, "The sentence does not name the argument."


def test_arrays_and_lists_are_taken_for_tensors():
    assert fixed_point(nn.Sequential(nn.Flatten()), [[1.0, 2.0]], 0.5).error == pytest.approx(0, abs=1e-9)
    found = safe_margin(FIELD, np.ones((3, 2)), 0.1)
    assert (
        found.clearance(np.ones((1, 2)))
        == safe_margin(FIELD, torch.ones(3, 2).double(), 0.1).clearance(torch.ones(1, 2))
    ).all()
    assert (node_radii(GRAPH, np.ones((5, 4))).radius == node_radii(GRAPH, torch.ones(5, 4)).radius).all()


@pytest.mark.parametrize("points", [torch.ones(0, 2), torch.ones(3, 0), torch.ones(2), torch.ones(3, 3)])
def test_clearance_refuses_what_are_no_points_of_the_field(points):
    found = safe_margin(FIELD, X[:, :2], 0.1)
    with pytest.raises(SdplipError, match="points"):
        found.clearance(points)


def test_functions_that_return_no_tensor_or_cannot_be_differentiated():
    with pytest.raises(SdplipError, match="`f` must return a tensor"):
        fixed_point(lambda _: None, X, 0.5)
    for margin in (lambda _: None, lambda _: torch.zeros(2)):
        with pytest.raises(SdplipError, match="differentiate"):
            minimise(margin, X, 0.1)
    with pytest.raises(SdplipError, match="floating point"):
        minimise(lambda z: z.sum(1), X.long(), 0.1)


def test_layers_refuse_inputs_that_do_not_fit():
    with pytest.raises(SdplipError, match="takes"):
        DeepResidualLinear(4, [4])(torch.ones(2, 5))
    with pytest.raises(SdplipError, match="float64"):
        Propagate(torch.eye(3))(torch.ones(1, 3, 2).double())
    with pytest.raises(SdplipError, match="complex"):
        orthogonal(nn.Linear(2, 2, dtype=torch.complex64))
    with pytest.raises(SdplipError, match="no numbers yet"):
        orthogonal(nn.Conv2d(2, 2, 3, device="meta"))


def test_a_folder_that_is_a_file_and_a_missing_file(tmp_path):
    (tmp_path / "proof.json").write_text("{}")
    with pytest.raises(SdplipError):
        save_to_folder(tmp_path, tmp_path / "proof.json")
    from sdplip.verifier.document import digest

    with pytest.raises(SdplipError, match="There is no file"):
        digest(tmp_path / "missing.npz")


def test_the_readers():
    assert (
        number("a", np.float32(2)) == number("a", torch.tensor(2.0)) == 2.0 and count("n", np.int64(3)) == 3
    )
    assert floats("a", torch.ones(2, requires_grad=True)).tolist() == [1.0, 1.0]
    assert (
        floats("a", 1.5).shape == () and tensor("x", [[1, 2]]).shape == (1, 2) and module("m", LAYER) is LAYER
    )
    for call in (
        lambda: number("a", "1"), lambda: number("a", np.complex128(1)), lambda: count("n", 1.0), lambda: count("n", 0),
        lambda: floats("a", torch.eye(2).to_sparse()), lambda: tensor("x", torch.eye(2).to_sparse()), lambda: one_of("w", "c", ("a", "b")),
    ):  # fmt: skip
        with pytest.raises(SdplipError, match="must"):
            call()
