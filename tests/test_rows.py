"""From l2 to l-infinity: the largest constant of one output, whichever outputs were left out, and certificates of all of them."""

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from sdplip.bounds import bound, estimate_lower, jacobian, split_bound
from sdplip.bounds.rows import rows_bound
from sdplip.certificates.region import Ball, Box
from sdplip.certificates.rows_file import load_rows, rows_record, save_rows, verify_rows
from sdplip.certificates.system import Map
from sdplip.certificates.system_file import maps
from sdplip.certificates.system_proof import certify_rows
from sdplip.errors import InvalidCertificate, InvalidProblem
from sdplip.networks import Activation, Affine, Network, Residual, from_weights, system_layers
from tests.commands import answer, invoke

CLOSE = 1e-6  # of two solves of the same problem
BALL = Ball(np.full(4, 0.2), 0.3)


def numbers(*widths: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    Ws = [rng.normal(size=(m, n)) / np.sqrt(n) for n, m in itertools.pairwise(widths)]
    return Ws, [rng.normal(size=len(W)) for W in Ws]


def network(activation: str = "relu", *widths: int, seed: int = 0) -> Network:
    Ws, bs = numbers(*(widths or (4, 6, 6, 4)), seed=seed)
    return from_weights(Ws, activation, bs)


def residual() -> Network:
    Ws, bs = numbers(4, 4, 4, 4, 5, seed=1)
    skip = Residual((Affine(Ws[1], bs[1]), Activation(0.0, 1.0, "relu"), Affine(Ws[2], bs[2])))
    return Network((Affine(Ws[0], bs[0]), skip, Activation(0.0, 1.0, "relu"), Affine(Ws[3], bs[3])))


NETWORKS = {
    "relu": network(),
    "tanh": network("tanh"),
    "maxmin": network("maxmin"),
    "residual": residual(),
    "one layer": from_weights(*numbers(4, 5)[:1]),
    "ends in relu": Network((*network().layers, Activation(0.0, 1.0, "relu"))),
    "ends in a branch": Network((Residual((Affine(np.diag([1.0, -2, 3, 0.5])),)),)),
    "same rows": from_weights([np.eye(4), np.ones((3, 4))]),
}


def single(net: Network, i: int) -> Network:
    """Output i alone, by hand."""
    unit = np.eye(net.outputs)[i : i + 1]
    *front, last = net.layers
    if not isinstance(last, Affine):
        return Network((*net.layers, Affine(unit)))
    return Network((*front, Affine(unit @ last.W, None if last.b is None else last.b[i : i + 1])))


@pytest.mark.parametrize("region", [None, BALL, Box(np.zeros(4), np.ones(4))], ids=["all", "ball", "box"])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_largest_bound_of_one_output(name, region):
    net = NETWORKS[name]
    for method in ("product", "lipsdp-neuron"):
        found = bound(net, method, output_norm="linf", region=region)
        each = [bound(single(net, i), method, region=region).value for i in range(net.outputs)]
        assert found.value == pytest.approx(max(each), rel=CLOSE)
        assert each[found.row] == pytest.approx(max(each), rel=CLOSE)
        whole = bound(net, method, region=region)
        assert found.lower <= found.value <= whole.value * (1 + CLOSE)
        assert found.lower <= whole.lower * (1 + 1e-9) or whole.lower == whole.value
        assert whole.row is None and whole.value <= np.sqrt(net.outputs) * found.value * (1 + CLOSE)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_row_of_a_jacobian_is_longer(name):
    net, rng = NETWORKS[name], np.random.default_rng(3)
    found, local = (bound(net, output_norm="linf", region=region) for region in (None, BALL))
    products = certify_rows(system_layers(net))
    for _ in range(40):
        far, near = rng.normal(size=4) * 3, rng.normal(size=4)
        near = BALL.center + near * (BALL.radius * rng.uniform() / np.linalg.norm(near))
        lengths = np.linalg.norm(jacobian(net, far), axis=1)
        assert (lengths <= products * (1 + 1e-12)).all() and lengths.max() <= found.value * (1 + 1e-12)
        assert np.linalg.norm(jacobian(net, near), axis=1).max() <= local.value * (1 + 1e-12)


def test_outputs_that_cannot_be_the_largest_are_not_solved(monkeypatch):
    Ws, _ = numbers(4, 8, 6, 40, seed=2)
    Ws[-1][1:] *= 1e-3
    for region in (None, BALL):
        asked = []
        for name in ("bound", "bound_claim"):
            plain = getattr(__import__("sdplip.bounds.rows", fromlist=[name]), name)
            monkeypatch.setattr(
                f"sdplip.bounds.rows.{name}",
                lambda *a, plain=plain, asked=asked, **k: asked.append(a) or plain(*a, **k),
            )
        found = rows_bound(from_weights(Ws, "relu", [np.zeros(len(W)) for W in Ws]), region=region)
        assert found.row == 0 and len(asked) == 1
        monkeypatch.undo()


def test_multipliers_of_the_largest_output_stand_for_those_like_it():
    Ws, _ = numbers(4, 8, 6, 1, seed=4)
    near = [Ws[-1][0] * (1 - 1e-3 * k) * [1, 1, 1, 1, 1, (-1) ** k] for k in range(4)]
    Ws[-1] = np.array(near)
    found = rows_bound(from_weights(Ws), "lipsdp-neuron", proofs=True)
    assert any(p is not None and p.method == "multipliers of another output" for p in found.row_proofs)
    assert found.value >= max(bound(single(from_weights(Ws), i)).value for i in range(4)) * (1 - CLOSE)


def test_positive_weights_by_hand():
    W1, W2 = np.array([[1.0, 2], [0, 1]]), np.array([[1.0, 1], [3, 0]])
    found = bound(from_weights([W1, W2]), output_norm="linf")
    assert found.row == 1 and found.value == pytest.approx(45**0.5, rel=CLOSE)  # 3 (1, 2), all neurons on
    assert found.lower == pytest.approx(45**0.5, rel=1e-12)
    zero = from_weights([np.eye(2), np.array([[0.0, 0], [1, 0], [0, 0]])])
    assert bound(zero, output_norm="linf").row == 1


def test_large_networks_and_norms_from_below(monkeypatch):
    net = NETWORKS["relu"]
    dense = estimate_lower(net, norm="linf")
    monkeypatch.setattr("sdplip.bounds.lower.DENSE", 0)
    assert 0 < estimate_lower(net, norm="linf") <= bound(net, output_norm="linf").value
    assert dense <= bound(net, output_norm="linf").value


def test_pairs_pieces_and_strange_norms():
    net = NETWORKS["relu"]
    pair = bound(net, output_pair=(0, 1), output_norm="linf")
    assert pair.value == bound(net, output_pair=(0, 1)).value and pair.row is None
    box = Box(np.full(4, -1.0), np.ones(4))
    whole, cut = (split_bound(net, box, pieces, "lipsdp-neuron", output_norm="linf") for pieces in (1, 4))
    assert whole.value == bound(net, "lipsdp-neuron", region=box, output_norm="linf").value
    assert cut.lower <= cut.value <= whole.value and cut.row is not None
    with pytest.raises(InvalidProblem, match="'l1'"):
        bound(net, output_norm="l1")  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------------------------------------------- certificates


@pytest.mark.parametrize("region", [None, BALL], ids=["all", "ball"])
@pytest.mark.parametrize("name", ["relu", "maxmin", "residual", "one layer", "ends in relu"])
def test_certificate_file_goes_there_and_back(tmp_path, name, region):
    found = rows_bound(NETWORKS[name], "lipsdp-neuron", region=region, proofs=True)
    assert len(found.row_proofs) == NETWORKS[name].outputs and found.claim is not None
    path = tmp_path / "net.json"
    save_rows(path, rows_record("net", found.claim, found.value, found.row_proofs))
    entry, matrices = load_rows(path), list(maps(found.claim.layers))
    assert verify_rows(entry, matrices).proven
    other = [Map(matrices[0].W * 2, matrices[0].b), *matrices[1:]]
    moved = [Map(matrices[0].W, np.ones(len(matrices[0].W)) * 3), *matrices[1:]]
    assert not verify_rows(entry, other).proven
    assert verify_rows(entry, moved).proven is (region is None)  # biases matter on regions only
    less = dataclasses.replace(entry, bound=found.value * (1 - 1e-5))
    assert not verify_rows(less, matrices).proven
    lie = [None if p is None else dataclasses.replace(p, bound=less.bound) for p in entry.proofs]
    assert not verify_rows(dataclasses.replace(less, proofs=tuple(lie)), matrices).proven
    few = dataclasses.replace(entry, proofs=entry.proofs[1:])
    assert "outputs" in verify_rows(few, matrices).reason
    swapped = dataclasses.replace(entry, proofs=(None,) * len(entry.proofs))
    assert verify_rows(swapped, matrices).proven is bool(
        certify_rows(found.claim.on_region()).max() <= found.value
    )


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(InvalidCertificate, match="rows-certificate"):
        load_rows(tmp_path / "c.json")


# ---------------------------------------------------------------------------------------------------- command


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Ws, bs = numbers(4, 8, 6, 5)
    arrays = {f"w{i}": W for i, W in enumerate(Ws)} | {f"b{i}": b for i, b in enumerate(bs)}
    np.savez("net.npz", **arrays)
    np.savez("other.npz", **{name: 1.01 * array for name, array in arrays.items()})
    return invoke


@pytest.mark.parametrize(
    "more", [[], ["--ball", "0.2,0.3"], ["--activation", "maxmin"], ["--method", "riccati"]]
)
def test_the_command_proves_and_verify_proves_again(run, more):
    asked = ["bound", "net.npz", "--output-norm", "linf", *more]
    code, found = answer(run, *asked, "--certificate", "C.json")
    assert code == 0 and found["output_norm"] == "linf" and 0 <= found["row"] < 5
    assert found["lower"] <= found["bound"] == json.loads(Path("C.json").read_text())["bound"]
    assert found["bound"] < answer(run, "bound", "net.npz", *more)[1]["bound"]
    assert answer(run, "verify", "C.json", "net.npz")[1]["proven"]
    code, out, _ = run("verify", "C.json", "net.npz")
    assert code == 0 and "l2 to l-infinity" in out
    assert answer(run, "verify", "C.json", "other.npz")[0] == 1
    code, out, _ = run(*asked)
    assert (
        code == 0
        and f"output {found['row']}" in out
        and "|f(x) - f(y)|_inf" in out
        and "4 → 8 → 6 → 5" in out
    )


def test_all_methods_side_by_side(run):
    rows = answer(run, "bound", "net.npz", "--output-norm", "linf", "--compare")[1]["methods"]
    euclid = answer(run, "bound", "net.npz", "--compare")[1]["methods"]
    assert [row["method"].split("-")[0] for row in rows] == [row["method"].split("-")[0] for row in euclid]
    value = {row["method"]: row["bound"] for row in rows}
    assert value["lipsdp-neuron"] == min(value.values()) and value["product"] >= value["composite"]
    assert len({row["lower"] for row in rows}) == 1 and all(row["row"] in range(5) for row in rows)
    code, *_ = run("bound", "net.npz", "--output-norm", "linf", "--compare", "--certificate", "C.json")
    assert code == 0 and run("verify", "C.json", "net.npz")[0] == 0
    code, found = answer(run, "bound", "net.npz", "--output-norm", "linf", "--box", "0,1", "--pieces", "3")
    assert code == 0 and found["output_norm"] == "linf"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--output-pair", "0,1"], "one number"),
        (["--method", "composite", "--certificate", "C.json"], "no certificate file"),
    ],
)
def test_what_does_not_go_together_is_refused(run, more, reason):
    code, out, err = run("bound", "net.npz", "--output-norm", "linf", *more)
    assert (code, out) == (2, "") and reason in err.strip().splitlines()[-1]
