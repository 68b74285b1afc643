"""Certificate files: what is written can be proven again, and nothing else can."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sdplip.certificates.file import Record, load, record, save, verify, weight_digest
from sdplip.errors import InvalidCertificate
from sdplip.geometry import Geometry
from sdplip.proposals import certify, certify_convolution
from sdplip.scalings import aol


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "dense": rng.normal(size=(6, 9)).astype(np.float32),
        "hidden": rng.normal(size=(5, 7)),
        "kernel": rng.normal(size=(4, 3, 3, 3)),
        "sized": rng.normal(size=(4, 3, 3, 3)),
    }


@pytest.fixture
def records(weights) -> list[Record]:
    kernel, five = weights["kernel"], Geometry(image_size=(5, 5))
    return [
        record("dense", weights["dense"], certify(weights["dense"], aol(weights["dense"]), scaling="aol")),
        record("hidden", weights["hidden"], certify(weights["hidden"].T, np.full(5, 3.0), form="residual")),
        record("kernel", kernel, certify_convolution(kernel, np.full(3, 9.0))),
        record("sized", weights["sized"], certify_convolution(weights["sized"], np.ones(4), five, form="residual")),
    ]  # fmt: skip


def test_round_trip_proves_everything_again(tmp_path, weights, records):
    path = tmp_path / "certificate.json"
    save(path, records)
    for entry in load(path):
        result = verify(entry, weights[entry.name])
        assert result.proven, result.reason
        assert entry.certificate.c == {r.name: r for r in records}[entry.name].certificate.c


@pytest.mark.parametrize("name", ["dense", "hidden", "kernel", "sized"])
def test_a_changed_weight_is_rejected(weights, records, name):
    entry = {r.name: r for r in records}[name]
    weight = weights[name].copy()
    weight.flat[0] = np.nextafter(weight.flat[0], 1, dtype=weight.dtype)
    assert "SHA-256" in verify(entry, weight).reason


def altered(path, layer: int, field: str, change) -> str:
    document = json.loads(path.read_text())
    document["layers"][layer][field] = change(document["layers"][layer][field])
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_better_claims_than_the_truth_are_rejected(tmp_path, weights, records, layer):
    path = tmp_path / "certificate.json"
    for field, change in (("t", lambda t: [x * 0.5 for x in t]), ("c_lower", lambda c: c * 1.01)):
        save(path, records)
        altered(path, layer, field, change)
        entry = load(path)[layer]
        assert not verify(entry, weights[entry.name]).proven, field
    save(path, records)
    entry = load(path)[layer]
    smaller = type(entry.certificate)(**{**vars(entry.certificate), "c": entry.certificate.c_lower * 0.99})
    result = verify(Record(entry.name, entry.dtype, entry.shape, entry.sha256, smaller), weights[entry.name])
    assert not result.proven and "could not be proven" in result.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable certificate"),
        ("{", "not a readable certificate"),
        ("[1]", "not a certificate of schema"),
        ('{"schema": "sdplip-certificate/9"}', "not a certificate of schema"),
        ('{"schema": "sdplip-certificate/1"}', "malformed"),
        ('{"schema": "sdplip-certificate/1", "layers": [{"name": "x"}]}', "malformed"),
        ('{"schema": "sdplip-certificate/1", "layers": [NaN]}', "NaN"),
    ],
)
def test_malformed_files_are_refused(tmp_path, text, message):
    path = tmp_path / "certificate.json"
    path.write_text(text)
    with pytest.raises(InvalidCertificate, match=message):
        load(path)


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("bound", lambda b: b / 2, "bound"),
        ("witness", lambda w: [x + 1 for x in w], "digest"),
        ("form", lambda _: "other", "form"),
    ],
)
def test_inconsistent_fields_are_refused(tmp_path, records, field, change, message):
    path = tmp_path / "certificate.json"
    save(path, records)
    with pytest.raises(InvalidCertificate, match=message):
        load(altered(path, 0, field, change))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InvalidCertificate, match=r"none\.json"):
        load(tmp_path / "none.json")


def test_a_certificate_for_another_shape_is_rejected_not_crashed(records, weights):
    entry = records[2]
    forged = Record(
        entry.name, "<f8", weights["dense"].shape, weight_digest(weights["dense"]), entry.certificate
    )
    assert not verify(forged, weights["dense"]).proven


def test_digest_depends_on_type_and_shape_but_not_on_memory_order():
    W = np.arange(6.0).reshape(2, 3)
    assert weight_digest(W) == weight_digest(np.asfortranarray(W)) == weight_digest(W.astype(">f8"))
    assert len({weight_digest(W), weight_digest(W.reshape(3, 2)), weight_digest(W.astype(np.float32))}) == 3


def test_the_kernel_imports_numpy_alone():
    code = (
        "import sys, sdplip.certificates.file;"
        "others = ('torch', 'cvxpy', 'scipy', 'scs', 'matplotlib', 'sdplip.scalings', 'sdplip.solvers');"
        "print([m for m in others if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
