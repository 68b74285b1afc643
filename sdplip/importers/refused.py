"""Layers that are known by the names of their arrays, but are not read: why, and what to do instead."""

from sdplip.importers.layer import Group

REMEDY = "Build the network with its library, load the checkpoint, call `.eval()`, and ask `sdplip.lipschitz(module)`."

FREQUENCIES = "runs in the frequencies of one image size, which no array says"
FRAGMENT = "is read only with its stem, neck and last layer, which the file lacks"
START = "begins with spectral vectors that each forward moves on, and has iterations that no array counts"
GROUPS = "may have groups and a stride, or orthogonal convolutions around it, of which no array says anything"
ORIGINAL = "parametrizations.weight.original"
U = "parametrizations.weight.0.parametrizations.u.original"
RKO = "parametrizations.weight.0.pi.parametrizations.u.original"
BLOCK = "parametrizations.kernel"
"""The parametrized kernel of orthogonium's residual blocks, below their names."""

MARKS: tuple[tuple[frozenset[str], str, str], ...] = (
    (frozenset({"random_conv_filter", "correction"}), "SOC", "runs a sum of twelve powers of a convolution"),
    (
        frozenset({"param_matrices", "mask"}),
        "BCOP",
        "is built by Björck's iteration, whose start is random in eval mode too",
    ),
    (frozenset({"weight", "psi", "alpha"}), "a sandwich layer", FREQUENCIES),
    (frozenset({"weight", "alpha"}), "a Cayley layer", FREQUENCIES),
    (frozenset({"weights", "gamma", "I_low"}), "BRONet's backbone", FRAGMENT),
    (frozenset({"weights", "gamma", "init_x"}), "LiResNet's backbone", FRAGMENT),
    (frozenset({"kernel", "weight"}), "BRONet's neck", FRAGMENT),
    (frozenset({ORIGINAL, U}), "an orthogonal layer of orthogonium", START),
    (frozenset({ORIGINAL, RKO}), "an orthogonal layer of orthogonium", START),
    (frozenset({ORIGINAL, "parametrizations.weight.0.q"}), "orthogonium's AOL", GROUPS),
)
"""Names of arrays, the layer, and what keeps it from being read."""


def reason(prefix: str, group: Group) -> str | None:
    """Why the layer is refused, None if its names are not known."""
    if prefix.endswith(BLOCK) and "original" in group:
        name = prefix.removesuffix(BLOCK).rstrip(".")
        return f"`{name}` is a residual block of orthogonium, which {GROUPS}. {REMEDY}"
    for names, layer, why in MARKS:
        if names <= set(group):
            return f"`{prefix}` is {layer}, which {why}. {REMEDY}"
    return None
