"""Systems of increments: no false bound in exact arithmetic; laws of sorting, residual sums, regions and certificate files."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from sdplip.bounds import bound, estimate_lower, jacobian, pair_bounds, split_bound
from sdplip.bounds.samples import largest_jacobian, value_and_jacobian
from sdplip.bounds.system import backward
from sdplip.certificates.narrow import narrowed
from sdplip.certificates.pieces_file import pieces_record, verify_pieces
from sdplip.certificates.region import Ball, Box, linear_share, localise, preactivations
from sdplip.certificates.system import Map, Skip, Slope, Sort, expand
from sdplip.certificates.system_file import load_system, maps, save_system, system_record, verify_system
from sdplip.certificates.system_proof import certify_composition, certify_system, system_holds
from sdplip.errors import InvalidProblem, InvalidScaling, InvalidWeight, NotProvable
from sdplip.networks import Activation, Affine, GroupSort, Network, Residual, from_weights, system_layers
from sdplip.networks.torch import from_module
from tests.exact import inertia_signs

CLOSE = 1e-7
"""Relative accuracy of the interior-point method on the bound, as in test_bounds."""


pytestmark = pytest.mark.usefixtures("one_thread")


def weights(seed: int, *widths: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return (
        [rng.normal(size=(m, n)) for n, m in itertools.pairwise(widths)],
        [rng.normal(size=m) for m in widths[1:]],
    )


def network(seed: int, *widths: int, activation: str | Activation | GroupSort = "relu") -> Network:
    Ws, bs = weights(seed, *widths)
    return from_weights(Ws, activation, bs)


def residual(seed: int, width: int = 4, activation: Activation | GroupSort | None = None) -> Network:
    Ws, bs = weights(seed, 5, width, 6, width, 6, width, 3)
    between = activation or Activation(kind="relu")
    return Network(
        (
            Affine(Ws[0], bs[0]),
            Residual((Affine(Ws[1], bs[1]), between, Affine(Ws[2], bs[2]))),
            between,
            Residual((Affine(Ws[3], bs[3]), between, Affine(Ws[4], bs[4]))),
            Affine(Ws[5], bs[5]),
        )
    )


NETWORKS = {
    "maxmin": network(1, 5, 6, 4, 3, activation="maxmin"),
    "halves": network(2, 5, 6, 4, 3, activation=GroupSort(2, halves=True)),
    "groupsort:3": network(3, 5, 6, 9, 3, activation="groupsort:3"),
    "groupsort:4": network(4, 3, 8, 4, 2, activation="groupsort:4"),
    "residual": residual(5),
    "residual-maxmin": residual(6, activation=GroupSort(2)),
    "residual-tanh": residual(7, activation=Activation(kind="tanh")),
    "wide": network(8, 40, 6, 4, 3, activation="maxmin"),
}


def exact_inequality(layers, multipliers, kappa) -> list[list[Fraction]]:
    """The inequality of the whole network with exact rational numbers, by its own expansion of the layers."""
    n = next(maps(layers)).W.shape[1]
    variables, slopes, weight, group = [], [], [], []

    def through(layers, rows):
        for layer in layers:
            if isinstance(layer, Map):
                rows = [combine([Fraction(w) for w in W], rows) for W in layer.W.tolist()]
            elif isinstance(layer, Slope):
                rows = [
                    slope(row, Fraction(a), Fraction(b))
                    for row, a, b in zip(rows, layer.alpha, layer.beta, strict=True)
                ]
            elif isinstance(layer, Sort):
                rows = list(rows)
                for members in layer.groups.tolist():
                    sort(rows, members)
            else:
                rows = [add(a, b) for a, b in zip(rows, through(layer.branch, rows), strict=True)]
        return rows

    def fresh(row, ends, w, number):
        variables.append(row)
        slopes.append(ends)
        weight.append(w)
        group.append(number)
        return {n + len(variables) - 1: Fraction(1)}

    def slope(row, a, b):
        number = group[-1] + 1 if group else 0
        return {k: a * x for k, x in row.items()} if a == b else fresh(row, (a, b), Fraction(1), number)

    def sort(rows, members):
        size, old = len(members), [rows[i] for i in members]
        new = [combine([Fraction(1, size)] * size, old)] * size
        number = group[-1] + 1 if group else 0
        for k in range(1, size):
            h = [Fraction(1)] * k + [Fraction(-k)]
            p = fresh(combine(h, old[: k + 1]), (Fraction(-1), Fraction(1)), Fraction(1, k * (k + 1)), number)
            new = [
                add(v, {c: h[i] / (k * (k + 1)) * x for c, x in p.items()}) if i <= k else v
                for i, v in enumerate(new)
            ]
        for i, row in zip(members, new, strict=True):
            rows[i] = row

    def add(a, b):
        return {k: a.get(k, Fraction(0)) + b.get(k, Fraction(0)) for k in {*a, *b}}

    def combine(coefficients, rows):
        total = {}
        for c, row in zip(coefficients, rows, strict=True):
            total = add(total, {k: c * x for k, x in row.items()})
        return total

    out = through(layers, [{i: Fraction(1)} for i in range(n)])
    order = n + len(variables)
    M = [[kappa if i == j < n else Fraction(0) for j in range(order)] for i in range(order)]
    for i, (y, (a, b), w, g) in enumerate(zip(variables, slopes, weight, group, strict=True)):
        lam, v = Fraction(multipliers[g]) * w / 2, {n + i: Fraction(1)}
        p, q = (add(v, {k: -s * x for k, x in y.items()}) for s in (a, b))
        for r, c in itertools.product({*p, *q}, repeat=2):
            M[r][c] += lam * (p.get(r, 0) * q.get(c, 0) + q.get(r, 0) * p.get(c, 0))
    for row in out:
        for r, c in itertools.product(row, repeat=2):
            M[r][c] -= row[r] * row[c]
    return M


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["relu", "maxmin", "groupsort:3", "skip"])
def test_no_false_bound_in_exact_arithmetic(kind, seed):
    rng = np.random.default_rng(seed)
    if kind == "skip":
        A, B, C = (rng.normal(size=s) for s in ((2, 2), (3, 2), (2, 3)))
        slope = Slope(np.full(3, -0.25), np.array([1.0, 1.125, -0.25]))
        layers = (Map(A), Skip((Map(B), slope, Map(C))), Skip((Sort(np.array([[0, 1]])),)))
    else:
        Ws, _ = weights(seed, 2, 3, 3, 2) if kind == "groupsort:3" else weights(seed, 2, 4, 2, 2)
        Ws[0] *= 10.0 ** rng.uniform(-6, 6)
        layers = system_layers(from_weights(Ws, kind))
    system = expand(layers, 2)
    _, lam = backward(system)
    for multipliers in (lam, lam * rng.uniform(0.3, 3, len(lam))):
        try:
            proof = certify_system(system, multipliers)
        except NotProvable:
            continue
        assert inertia_signs(exact_inequality(layers, proof.multipliers, Fraction(proof.bound) ** 2))[0]
        assert system_holds(system, proof.multipliers, proof.bound)
        least = proof.bound * (1 - 1e-6)
        if not inertia_signs(exact_inequality(layers, proof.multipliers, Fraction(least) ** 2))[0]:
            assert not system_holds(system, proof.multipliers, least)


@pytest.mark.parametrize("name", NETWORKS)
def test_upper_above_lower_and_order_of_the_methods(name):
    values = {
        method: bound(NETWORKS[name], method) for method in ("product", "riccati", "lipsdp-neuron", "auto")
    }
    best = values["lipsdp-neuron"]
    assert best.lower <= best.value <= values["riccati"].value * (1 + CLOSE)
    assert best.value <= values["product"].value * (1 + CLOSE)
    assert best.sdp_lower <= best.value * (1 + 1e-9) <= best.sdp_lower * (1 + CLOSE)
    assert values["auto"].value == min(values["auto"].others.values())
    assert values["product"].system_certificate is None and best.system_certificate.bound == best.value


@pytest.mark.parametrize("method", ["product", "lipsdp-neuron"])
def test_one_sorted_layer_is_the_identity_on_its_mean(method):
    """Groups that fill the layer and an output that adds them up: sorting changes nothing, so the constant is exact."""
    rng = np.random.default_rng(0)
    W = rng.normal(size=(6, 4))
    net = from_weights([W, np.ones((1, 6))], "groupsort:3")
    exact = float(np.linalg.norm(np.ones((1, 6)) @ W, 2))
    value = bound(net, method).value
    assert value >= exact
    assert method == "product" or value <= exact * (1 + CLOSE)


def test_sorting_obeys_the_inequality_that_is_claimed():
    rng = np.random.default_rng(1)
    for size in (2, 3, 5):
        x, y = rng.normal(size=(2, 200, size))
        u, v = x - y, np.sort(x) - np.sort(y)
        helmert = [np.array([1.0] * k + [-k] + [0.0] * (size - k - 1)) for k in range(1, size)]
        total = sum(((v @ h) ** 2 - (u @ h) ** 2) / (k * (k + 1)) for k, h in enumerate(helmert, 1))
        assert (total <= 1e-12).all() and np.allclose(u.sum(1), v.sum(1))


def test_permuted_groups_and_order_within_pairs_change_nothing():
    Ws, _ = weights(9, 4, 6, 6, 3)
    first = bound(from_weights(Ws, "maxmin"), "lipsdp-neuron").value
    p = np.array([4, 5, 1, 0, 2, 3])  # pairs move together
    moved = [Ws[0][p], Ws[1][:, p][p], Ws[2][:, p]]
    assert bound(from_weights(moved, "maxmin"), "lipsdp-neuron").value == pytest.approx(first, rel=CLOSE)
    halves = np.array([1, 3, 5, 0, 2, 4])  # the pairs of neighbours as (i, i + 3)
    moved = [Ws[0][halves], Ws[1][:, halves][halves], Ws[2][:, halves]]
    other = bound(from_weights(moved, GroupSort(2, halves=True)), "lipsdp-neuron").value
    assert other == pytest.approx(first, rel=CLOSE)


def test_a_system_of_a_chain_gives_the_bound_of_the_chain():
    net = network(10, 4, 6, 5, 3)
    layers = system_layers(net)
    whole = bound(net, region=Ball(np.zeros(4), 1e6), method="lipsdp-neuron").value
    assert whole == pytest.approx(bound(net, "lipsdp-neuron").value, rel=CLOSE)
    by_hand = Network((Affine(np.eye(4)), Residual((Affine(np.zeros((4, 4))),)), *net.layers))
    assert bound(by_hand).value == pytest.approx(bound(net, "lipsdp-neuron").value, rel=CLOSE)
    assert certify_composition(layers) == pytest.approx(bound(net, "product").value, rel=1e-12)


def test_residual_layer_by_hand():
    # x + relu(-2 x): slopes 1 and -1, constant 1; composition gives 1 + 2.
    net = Network((Residual((Affine(np.array([[-2.0]])), Activation(kind="relu"), Affine(np.eye(1)))),))
    assert bound(net, "product").value == pytest.approx(3)
    value = bound(net, "lipsdp-neuron").value
    assert 1 <= value <= 1 + CLOSE


def test_more_slope_range_never_lowers_the_bound():
    rng = np.random.default_rng(11)
    A, B, C = rng.normal(size=(3, 4, 4))
    values = []
    for ends in ((0.5, 0.5), (0.3, 0.8), (0.0, 1.0), (-0.1, 1.0), (-0.1, 1.3)):
        act = Activation(*ends)
        net = Network((Affine(A), Residual((Affine(B), act, Affine(C))), act, Affine(A)))
        values.append(bound(net, "lipsdp-neuron").value)
    assert all(a <= b * (1 + CLOSE) for a, b in itertools.pairwise(values))


REGIONS = {
    "ball": lambda x: Ball(x, 0.3),
    "box": lambda x: Box(x - 0.2, x + 0.1),
    "point": lambda x: Ball(x, 0.0),
}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(
    "net",
    [
        *NETWORKS.values(),
        *(network(12, 5, 6, 5, 3, activation=a) for a in ("relu", "tanh", "sigmoid", "softplus", "abs")),
    ],
    ids=[*NETWORKS, "relu", "tanh", "sigmoid", "softplus", "abs"],
)
def test_bounds_on_regions(net, region):
    rng = np.random.default_rng(13)
    where = REGIONS[region](rng.normal(size=net.inputs))
    layers = system_layers(net)
    points = [sample(rng, where) for _ in range(60)]
    least, most = preactivations(layers, where)
    values = np.array([value_and_jacobian(layers, x)[0] for x in points])
    room = 1e-12 * (1 + abs(values))  # rounding of the sampled values
    assert (least <= values + room).all() and (values - room <= most).all()
    local, everywhere = bound(net, "lipsdp-neuron", region=where), bound(net, "lipsdp-neuron")
    assert local.lower * (1 - 1e-9) <= local.value <= everywhere.value * (1 + 10 * CLOSE)
    norms = [np.linalg.norm(value_and_jacobian(layers, x)[1], 2) for x in points]
    assert max(norms) <= local.value * (1 + 1e-9)
    if region == "point" and net is NETWORKS["maxmin"]:
        assert local.value == pytest.approx(norms[0], rel=1e-9)


def sample(rng: np.random.Generator, region: Ball | Box) -> np.ndarray:
    if isinstance(region, Box):
        return rng.uniform(region.lower, region.upper)
    v = rng.normal(size=region.inputs)
    return region.center + region.radius * rng.choice([1.0, 0.5]) * v / np.linalg.norm(v)


def test_pieces_of_a_box_only_lower_the_bound():
    box = Box(np.full(3, -1.0), np.full(3, 0.5))
    for activation in ("relu", "maxmin", "tanh"):
        net = network(17, 3, 6, 6, 2, activation=activation)
        values = [split_bound(net, box, pieces, "lipsdp-neuron") for pieces in (1, 2, 6)]
        assert values[0].value == bound(net, "lipsdp-neuron", region=box).value
        assert all(a.value >= b.value for a, b in itertools.pairwise(values))
        assert all(v.lower <= v.value for v in values) and values[2].lower >= values[0].lower
        assert values[2].system_certificate is None and "boxes" in values[2].method
        claim, tree = values[2].claim, values[2].pieces
        assert verify_pieces(pieces_record("", claim, values[2].value, tree), list(maps(claim.layers))).proven
    point = Box(np.zeros(3), np.zeros(3))
    assert split_bound(net, point, 4).value == pytest.approx(bound(net, region=point).value)
    with pytest.raises(InvalidProblem, match="at least 1 piece"):
        split_bound(net, box, 0)


def test_fixed_neurons_are_free():
    net = network(14, 3, 8, 8, 2)
    small = localise(system_layers(net), Ball(np.ones(3), 1e-3))
    fixed, total = linear_share(small)
    assert total == 16 and fixed >= 14
    with pytest.raises(InvalidProblem, match="not known"):
        bound(network(14, 3, 8, 2, activation=Activation(-0.5, 1.5)), region=Ball(np.ones(3), 0.1))
    with pytest.raises(InvalidProblem, match="coordinates"):
        bound(net, region=Ball(np.ones(4), 0.1))


def test_sorted_pairs_of_fixed_order_swap():
    W, b = np.array([[1.0, 0], [0, 1.0]]), np.array([10.0, 0])
    net = from_weights([W, np.array([[1.0, 2.0]])], "maxmin", [b, np.zeros(1)])
    layers = localise(system_layers(net), Ball(np.zeros(2), 1.0))
    assert not any(isinstance(layer, Sort) for layer in layers)
    assert bound(net, region=Ball(np.zeros(2), 1.0)).value == pytest.approx(5**0.5, rel=1e-9)


def test_lower_estimates_know_systems():
    for net in NETWORKS.values():
        x = np.random.default_rng(18).normal(size=net.inputs)
        most = max(float(np.linalg.norm(jacobian(net, x), 2)), estimate_lower(net))
        assert 0 < most <= bound(net, "product").value


def test_pairs_of_outputs():
    net = NETWORKS["maxmin"]
    pair = bound(net, "lipsdp-neuron", output_pair=(0, 2))
    last = net.layers[-1]
    by_hand = Network((*net.layers[:-1], Affine((last.W[0] - last.W[2])[None])))
    assert pair.value == pytest.approx(bound(by_hand, "lipsdp-neuron").value, rel=CLOSE)
    assert pair.value <= 2**0.5 * bound(net).value * (1 + CLOSE)
    with pytest.raises(InvalidProblem, match="two different outputs"):
        bound(net, output_pair=(1, 1))
    with pytest.raises(InvalidProblem, match="elementwise activations"):
        bound(net, "composite")


def test_all_pairs():
    net, done = NETWORKS["residual-maxmin"], []
    for region in (None, Ball(np.zeros(5), 0.1)):
        found = pair_bounds(net, "lipsdp-neuron", region=region, progress=lambda *step: done.append(step))
        assert (found == found.T).all() and (found.diagonal() == 0).all()
        whole = bound(net, "lipsdp-neuron", region=region).value
        assert (found <= 2**0.5 * whole * (1 + 1e-12)).all()
        pair = bound(net, "lipsdp-neuron", region=region, output_pair=(2, 1)).value
        assert found[1, 2] == min(pair, found[1, 2])
    assert done[:3] == [(1, 3), (2, 3), (3, 3)]


def test_torch_modules_of_the_same_network():
    from torch import nn

    from sdplip.nn import GroupSort as Groups
    from sdplip.nn import MaxMin
    from sdplip.nn import Residual as Skipped

    for activation, kind in ((MaxMin(), GroupSort(2, halves=True)), (Groups(3), GroupSort(3))):
        module = nn.Sequential(
            nn.Linear(4, 6), activation, Skipped(nn.Sequential(nn.Linear(6, 6), activation)), nn.Linear(6, 2)
        ).double()
        net = from_module(module)
        first, second, last = (m for m in module.modules() if isinstance(m, nn.Linear))
        arrays = lambda m: (m.weight.detach().numpy(), m.bias.detach().numpy())  # noqa: E731
        by_hand = Network(
            (Affine(*arrays(first)), kind, Residual((Affine(*arrays(second)), kind)), Affine(*arrays(last)))
        )
        assert bound(net).value == bound(by_hand).value
        x = np.random.default_rng(0).normal(size=4)
        expected = module(torch.tensor(x)[None])[0].detach().numpy()
        assert np.allclose(value_and_jacobian(system_layers(net), x)[0], expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(InvalidWeight, match="axis"):
        from_module(nn.Sequential(nn.Linear(4, 6), MaxMin(dim=2)))


def test_a_narrowed_matrix_is_above():
    rng = np.random.default_rng(15)
    W = rng.normal(size=(5, 60))
    W[4] = W[3]  # of rank 4
    (square,) = narrowed((Map(W),))
    R = square.W
    assert R.shape == (5, 5)
    assert np.linalg.eigvalsh(R @ R.T - W @ W.T)[0] >= -1e-10
    assert np.linalg.norm(R, 2) == pytest.approx(np.linalg.norm(W, 2), rel=1e-9)


@pytest.mark.parametrize(
    "region", [None, Ball(np.zeros(5), 0.5), Box(np.zeros(5), np.ones(5))], ids=["all", "ball", "box"]
)
@pytest.mark.parametrize("name", ["maxmin", "residual", "groupsort:3"])
def test_certificate_file_goes_there_and_back(tmp_path, name, region):
    found = bound(NETWORKS[name], "lipsdp-neuron", region=region, output_pair=(0, 1))
    path = tmp_path / "net.json"
    save_system(path, system_record("net", found.claim, found.system_certificate))
    entry, matrices = load_system(path), list(maps(found.claim.layers))
    assert verify_system(entry, matrices).proven
    other = [Map(matrices[0].W * 2, matrices[0].b), *matrices[1:]]
    assert not verify_system(entry, other).proven
    moved = [Map(matrices[0].W, matrices[0].b + 1), *matrices[1:]]
    assert verify_system(entry, moved).proven is (region is None)  # biases matter on regions only
    lie = dataclasses.replace(entry.certificate, bound=found.value * (1 - 1e-5))
    assert not verify_system(dataclasses.replace(entry, certificate=lie), matrices).proven


def test_refusals():
    with pytest.raises(InvalidWeight, match="do not fill"):
        network(16, 3, 5, 2, activation="maxmin")
    with pytest.raises(InvalidWeight, match="added to its input"):
        Network((Residual((Affine(np.ones((2, 3))),)),))
    with pytest.raises(InvalidWeight, match="different numbers"):
        expand((Map(np.eye(3)), Sort(np.array([[0, 0]]))), 3)
    with pytest.raises(InvalidScaling, match="multipliers"):
        certify_system(expand((Map(np.eye(2)), Sort(np.array([[0, 1]]))), 2), np.ones(3))
    with pytest.raises(InvalidProblem, match="not above"):
        Box(np.ones(2), np.zeros(2))
    assert largest_jacobian((Map(np.eye(2)), Slope(np.zeros(2), np.ones(2))), 2) == 0.0


EXACT = {
    # Exact constants of ExLipBaB over all inputs, group size 2; of LipBaB over [0, 0.1]^10 and [0, 1]^4.
    "exlipbab_wine_net__11x12x12x1__GroupSort_numGroups6": (2.788306, None, 1.1),
    "exlipbab_bike_net__13x20x16x8x3__GroupSort_numGroups10": (9095.125, None, 1.1),
    "lipbab_SDnet__10_15_10_3_": (9.5307, 0.1, 1.001),
    "lipbab_SDnet__10_20_15_10_3_": (40.0565, 0.1, 1.05),
    "lipbab_SDnet__10_30_30_30_3_": (19.4628, 0.1, 1.55),
    "lipbab_iris_net__4_5_5_3_": (6.77145, 1.0, 1.001),
}


@pytest.mark.parametrize(("name", "exact"), EXACT.items())
def test_bounds_beside_exact_constants(benchmark_files, name, exact):
    value, end, factor = exact
    Ws, bs = (
        [np.asarray(v, float) for v in np.load(benchmark_files / f"{name}_{part}.npy", allow_pickle=True)]
        for part in ("weights", "biases")
    )  # our own copies of trusted files
    n = len(Ws[0])
    net = from_weights([W.T for W in Ws], "relu" if end else "maxmin", bs)
    found = bound(net, "lipsdp-neuron", region=Box(np.zeros(n), np.full(n, end)) if end else None)
    assert value * (1 - 1e-5) <= found.value <= factor * value  # published with five digits
    if factor > 1.5:  # the goal of local bounds, within 1.5 times of the truth
        assert split_bound(net, Box(np.zeros(n), np.full(n, end)), 8, "lipsdp-neuron").value <= 1.5 * value
