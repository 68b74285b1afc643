"""Layers that are known by the names of their arrays, but are not read: why, and what to do instead."""

from sdplip.importers.layer import Group

REMEDY = "Build the network with its library, load the checkpoint, call `.eval()`, and ask `sdplip.lipschitz(module)`."

MARKS: tuple[tuple[frozenset[str], str, str], ...] = (
    (frozenset({"random_conv_filter", "correction"}), "SOC", "runs a sum of twelve powers of a convolution"),
    (
        frozenset({"param_matrices", "mask"}),
        "BCOP",
        "is built by Björck's iteration, whose start is random in eval mode too",
    ),
    (
        frozenset({"weight", "psi", "alpha"}),
        "a sandwich layer",
        "runs in the frequencies of one image size, which no array says",
    ),
    (
        frozenset({"weight", "alpha"}),
        "a Cayley layer",
        "runs in the frequencies of one image size, which no array says",
    ),
    (
        frozenset({"weights", "gamma", "I_low"}),
        "BRONet's orthogonal block",
        "is computed from them at each frequency of its images",
    ),
    (frozenset({"weights", "gamma", "init_x"}), "LiResNet's block", "has an activation that no array names"),
    (
        frozenset({"kernel", "weight"}),
        "BRONet's neck",
        "is computed from them by a reflection or by Cholesky",
    ),
)
"""Names of arrays, the layer, and what keeps it from being read."""


def reason(prefix: str, group: Group) -> str | None:
    """Why the layer is refused, None if its names are not known."""
    for names, layer, why in MARKS:
        if names <= set(group):
            return f"`{prefix}` is {layer}, which {why}. {REMEDY}"
    return None
