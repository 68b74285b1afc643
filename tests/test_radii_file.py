"""Certificate files of local radii: proven again with the weights alone, and refused where anything is not as it was."""

import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from sdplip.certificates.increments import Front
from sdplip.certificates.radii_file import load_radii, point, save_radii, stays, verify_radii
from sdplip.certificates.system import Map
from sdplip.certificates.system_file import maps
from sdplip.errors import InvalidCertificate
from sdplip.networks import from_weights
from sdplip.robustness.attacks import pgd
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.from_network import module_of
from sdplip.robustness.local import local_radii
from sdplip.robustness.radii_proof import proven_radii
from tests.commands import answer, invoke

pytestmark = pytest.mark.usefixtures("one_thread")
N = 4


def network():
    rng = np.random.default_rng(3)
    Ws = [rng.normal(size=(m, n)) / np.sqrt(n) for n, m in itertools.pairwise((9, 12, 12, 4))]
    return from_weights(Ws, "relu", [0.1 * rng.normal(size=len(W)) for W in Ws])


@pytest.fixture(scope="module", params=["bytes", "numbers"])
def found(request):
    """The record, the radii it rests on, and the network."""
    rng, net = np.random.default_rng(4), network()
    images = torch.from_numpy(rng.integers(0, 256, size=(N, 1, 3, 3)).astype(np.uint8))
    images = images if request.param == "bytes" else images.double() / 255
    model = module_of(net)
    labels = model((images.double() / 255) if request.param == "bytes" else images).argmax(-1)
    labels[0] = (labels[0] + 1) % 4  # one prediction is wrong
    local = local_radii(model, images, labels, certify_accuracy(model, images, labels)).after
    return proven_radii("net.npz", net, images, local), local, net


def test_radii_are_those_of_the_local_constants(found):
    entry, local, _ = found
    assert [radius.index for radius in entry.radii] == [1, 2, 3]
    for radius in entry.radii:
        assert 0.9 * local.radius[radius.index] <= radius.radius <= local.radius[radius.index]
        assert radius.label == local.label[radius.index]
    assert any(radius.pairs for radius in entry.radii), "pairs with multipliers of their own are tested"


def test_attacks_do_not_break_what_the_file_says(found):
    entry, _, net = found
    x = torch.from_numpy(np.stack([point(image) for image in entry.images]))
    y = torch.tensor([radius.label for radius in entry.radii])
    r = torch.tensor([radius.radius for radius in entry.radii], dtype=torch.float64)
    model = module_of(net)
    assert (model(pgd(steps=30, restarts=2)(model, x, y, 0.999999 * r)).argmax(-1) == y).all()


def test_the_file_goes_there_and_back(tmp_path, found):
    entry, *_ = found
    path, matrices = tmp_path / "r.json", list(maps(entry.claim.layers))
    save_radii(path, entry)
    again = load_radii(path)
    assert (again.images == entry.images).all() and again.images.dtype == entry.images.dtype
    assert verify_radii(again, matrices).proven
    moved = [*matrices[:-1], Map(matrices[-1].W, matrices[-1].b + 0.1)]
    assert "SHA-256" in verify_radii(again, moved).reason
    text = json.loads(path.read_text())
    text["images"]["base64"] = text["images"]["base64"][4:]
    path.write_text(json.dumps(text))
    with pytest.raises(InvalidCertificate, match="malformed"):
        load_radii(path)


def test_lies_are_refused(found):
    entry, _, net = found
    front = Front.of(entry.claim.layers, net.inputs)
    k = next(k for k, radius in enumerate(entry.radii) if radius.pairs)
    x, radius = point(entry.images[k]), entry.radii[k]
    (j, proof), *_ = radius.pairs.items()
    lies = {
        "larger": {"radius": radius.radius * 1.5},
        "another class": {"label": (radius.label + 1) % 4},
        "no class": {"label": 7},
        "negative class": {"label": radius.label - 4},
        "no number": {"radius": float("nan")},
        "negative": {"radius": -1.0},
        "no proof": {"pairs": {}},
        "smaller constant": {
            "pairs": radius.pairs | {j: dataclasses.replace(proof, bound=proof.bound * 0.9)}
        },
        "negative constant": {"pairs": radius.pairs | {j: dataclasses.replace(proof, bound=-proof.bound)}},
    }
    assert stays(front, x, radius)
    for name, lie in lies.items():
        assert not stays(front, x, dataclasses.replace(radius, **lie)), name
    assert not stays(front, x + 1.0, radius)
    wrong = dataclasses.replace(radius, radius=radius.radius * 1.5)
    changed = dataclasses.replace(entry, radii=(*entry.radii[:k], wrong, *entry.radii[k + 1 :]))
    assert "could not be proven" in verify_radii(changed, list(maps(entry.claim.layers))).reason


def test_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    Ws = [rng.normal(size=(m, n)) / np.sqrt(n) for n, m in itertools.pairwise((64, 8, 10))]
    np.savez("net.npz", **{f"w{i}": W for i, W in enumerate(Ws)}, b0=np.ones(8), b1=np.zeros(10))
    np.savez("other.npz", **{f"w{i}": W for i, W in enumerate(Ws)}, b0=np.ones(8), b1=np.ones(10))
    asked = ["tighten", "net.npz", "--data", "digits", "--limit", 12, "--no-pairs", "--method", "product"]
    code, text, _ = invoke(*asked, "--local", 12, "--certificate", "r.json")
    assert code == 0 and "sdplip verify r.json net.npz" in text
    code, proof = answer(invoke, "verify", "r.json", "net.npz")
    assert code == 0 and proof["proven"]
    assert not answer(invoke, "verify", "r.json", "other.npz")[1]["proven"]
    code, out, err = invoke(*asked, "--certificate", "r.json")
    assert (code, out) == (2, "") and "Add --local" in err
    free = "import sys; from sdplip.certificates import radii_file; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", free], check=False).returncode == 0
