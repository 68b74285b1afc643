"""Certificate files of layers: what is written can be proven again, and nothing else can."""

import json
from pathlib import Path

import numpy as np
import pytest

from sdplip.errors import InvalidCertificate
from sdplip.geometry import Geometry
from sdplip.proposals import certify, certify_convolution
from sdplip.scalings import aol
from sdplip.verifier.document import digest
from sdplip.verifier.layers import save_layers
from sdplip.verifier.verify import Verification, verify

NAMES = ("dense", "hidden", "conv", "sized")


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "dense": rng.normal(size=(6, 9)).astype(np.float32),
        "hidden": rng.normal(size=(5, 7)),
        "conv": rng.normal(size=(4, 3, 3, 3)),
        "sized": rng.normal(size=(4, 3, 3, 3)),
    }


@pytest.fixture
def written(tmp_path, weights) -> tuple[Path, Path]:
    """A certificate and its weights."""
    W, V, K, L = weights.values()
    found = [
        certify(W, aol(W), scaling="aol"),
        certify(V.T, np.full(5, 3.0), form="residual"),
        certify_convolution(K, np.full(3, 9.0)),
        certify_convolution(L, np.ones(4), Geometry(image_size=(5, 5)), form="residual"),
    ]
    np.savez(tmp_path / "net.npz", **weights)
    save_layers(tmp_path / "C.json", tmp_path / "net.npz", zip(NAMES, found, strict=True))
    return tmp_path / "C.json", tmp_path / "net.npz"


def altered(written, layer: int, change) -> Verification:
    path, file = written
    document = json.loads(path.read_text())
    change(document["claims"][layer])
    path.write_text(json.dumps(document))
    return verify(path, file)


def test_round_trip_proves_everything_again(written):
    found = verify(*written)
    assert [claim.proven for claim in found.claims] == [True] * 4


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_weight_is_rejected(written, weights, name):
    path, file = written
    weights[name].flat[0] = np.nextafter(weights[name].flat[0], 1, dtype=weights[name].dtype)
    np.savez(file, **weights)
    found = verify(path, file)
    assert "SHA-256" in found.reason and not any(claim.proven for claim in found.claims)


@pytest.mark.parametrize("layer", range(4))
@pytest.mark.parametrize("key", ["t", "c_lower", "c"])
def test_better_claims_than_the_truth_are_rejected(written, layer, key):
    def change(entry):
        claim = entry["claim"]
        claim[key] = {
            "t": [x * 0.5 for x in claim["t"]], "c_lower": claim["c_lower"] * 1.01, "c": claim["c_lower"] * 0.99,
        }[key]  # fmt: skip

    found = altered(written, layer, change).claims
    assert [claim.proven for claim in found] == [k != layer for k in range(4)]


@pytest.mark.parametrize("layer", range(4))
def test_another_witness_proves_less(written, layer):
    def change(entry):
        values = np.array(entry["proof"]["data"]["witness"])
        entry["proof"]["data"]["witness"] = (values[..., ::-1] + 1).tolist()

    found = altered(written, layer, change).claims[layer]
    assert not found.proven


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "readable"),
        ("{", "readable"),
        ("[1]", "certificate"),
        ('{"schema": "sdplip-certificate/9"}', "anew"),
        ('{"schema": "sdplip-certificate/1", "layers": []}', "anew"),
        ('{"schema": "sdplip-certificate/2"}', "malformed"),
        ('{"schema": "sdplip-certificate/2", "claims": [NaN]}', "NaN"),
    ],
)
def test_malformed_files_are_refused(written, text, message):
    path, file = written
    path.write_text(text)
    with pytest.raises(InvalidCertificate, match=message):
        verify(path, file)


@pytest.mark.parametrize("change", [{"form": "other"}, {"t": "many"}, {"c": "1"}, {"t": []}, {"more": 1}])
def test_claims_that_are_none_are_refused(written, change):
    with pytest.raises(InvalidCertificate):
        altered(written, 0, lambda entry: entry["claim"].update(change))


def test_a_missing_file_is_refused(written):
    with pytest.raises(InvalidCertificate, match=r"none\.json"):
        verify(written[0].with_name("none.json"), written[1])


def test_a_claim_about_a_layer_of_another_shape_is_rejected_not_crashed(written):
    found = altered(written, 2, lambda entry: entry["claim"].update(layer="dense"))
    assert not found.claims[2].proven
    found = altered(written, 2, lambda entry: entry["claim"].update(layer="absent"))
    assert not found.claims[2].proven and "absent" in found.claims[2].reason


def test_the_digest_is_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
