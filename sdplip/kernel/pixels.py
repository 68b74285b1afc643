r"""Right pixels that any one change of an image leaves, all pixels together, in exact arithmetic.

Statement. Let the network make logits `(classes, *pixels)`, let y(p) be the label of pixel p, and let
$r_p = \min_j (s_y - s_j)(p) / L_{yj}$. With $s(p) = U z_p + b$ at every pixel and z an L-Lipschitz function of the image,
$L_{kj} = L \lVert u_k - u_j \rVert$; else $L_{kj} = \sqrt 2 L$ of the whole network, and of one logit f a pixel the quotient is
$\pm f / L$. Then $|r_p' - r_p| \le \lVert z_p' - z_p \rVert / L$ (or $\lVert s_p' - s_p \rVert / L$), and the squares of these add up to
$\lVert z' - z \rVert^2 / L^2 \le \lVert x' - x \rVert^2$: the vector r is 1-Lipschitz. A pixel with $r_p > 0$ is right and stays so unless $r_p$
becomes 0, so whoever flips the pixels of a set S pays $\sum_S r_p^2 \le \epsilon^2$; the cheapest ones first is the most.

One family of constants holds at all pixels: the least of two for each pair is none, because each could be attained at a pixel of its own.
"""

from math import prod

import numpy as np

from sdplip.arithmetic.rounding import TINY, gamma, up
from sdplip.errors import NotProvable
from sdplip.kernel.accuracy import distances
from sdplip.kernel.data import whole
from sdplip.kernel.evaluate import evaluate
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.subnormal import refuse_lost_numbers
from sdplip.network import Convolution, Network, OnAxis
from sdplip.shapes import Float, Int

IGNORED = -1
"""The label of pixels that do not count."""


def pixels_left(
    network: Network,
    x: Float[np.ndarray, "batch n"],
    labels: Int[np.ndarray, "batch pixels"],
    eps: float,
    proof: Proof,
    prove: Prove,
) -> Int[np.ndarray, " batch"]:
    """So many pixels are right after any change of each input whose length is at most `eps`, at least.

    Args:
        x: exact doubles.
        labels: `IGNORED` where a pixel does not count.
        proof: of rule "pixels": `data["cut"]` is a value that everything passes through and that makes the logits by one matrix a
            pixel (or the output itself); `parts[0]` bounds the network up to there.

    Raises:
        NotProvable: the proof proves nothing of this network; outputs that are no `(classes, *pixels)`, labels that they do not have.
    """
    costs = right_radii(network, x, labels, proof, prove)
    right = [cost[cost > 0] for cost in costs]
    return np.array([len(cost) - most_flips(cost, eps) for cost in right], np.int64)


@np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
def right_radii(
    network: Network,
    x: Float[np.ndarray, "batch n"],
    labels: Int[np.ndarray, "batch pixels"],
    proof: Proof,
    prove: Prove,
) -> Float[np.ndarray, "batch pixels"]:
    """The radii r of the statement, rounded down; not positive where the label does not lead or does not count."""
    refuse_lost_numbers(network)
    constants = pixel_constants(network, proof, prove)
    classes = len(constants)
    if labels.min() < IGNORED or labels.max() >= classes:
        raise NotProvable(
            f"Masks hold classes from {labels.min()} to {labels.max()}, but the network has {classes}."
        )
    low, high = (
        end.reshape(len(x), -1, labels.shape[1]) for end in evaluate(network, x)[network.output].ends()
    )
    if low.shape[1] == 1:  # one logit f is read as the two 0, f
        low, high = (np.concatenate([np.zeros_like(end), end], 1) for end in (low, high))
    y = np.maximum(labels, 0)
    own = np.take_along_axis(low, y[:, None], 1)[:, 0]
    found = np.where(labels == IGNORED, 0.0, np.inf)
    for j in range(classes):
        margin = np.nextafter(own - high[:, j], -np.inf)
        each = np.nextafter(margin / constants[y, j], -np.inf)
        each = np.where(np.isfinite(margin) & (margin > 0), each, 0.0)
        found = np.where(y == j, found, np.minimum(found, each))
    return found


def layout(network: Network) -> tuple[int, tuple[int, ...]]:
    """Logits a pixel, and how the pixels lie.

    Raises:
        NotProvable: the output has no pixels.
    """
    classes, *size = network.shape(network.output)
    if not size:
        raise NotProvable(
            f"The network makes {classes} numbers without pixels. A claim about pixels needs (classes, *pixels)."
        )
    return classes, tuple(size)


def pixel_constants(network: Network, proof: Proof, prove: Prove) -> Float[np.ndarray, "classes classes"]:
    """The constants $L_{kj}$ of the statement, one family for all pixels; of one logit a pixel those of the classes 0 and 1.

    Raises:
        NotProvable: another rule, no matrix a pixel behind the cut.
    """
    if proof.rule != "pixels" or len(proof.parts) != 1:
        raise NotProvable(
            f"Constants of pixels are proven by `pixels` over one proof, not by `{proof.rule}`."
        )
    classes, size = layout(network)
    cut = whole(proof, "cut", 0, network.output)
    if cut == network.output:
        L = prove(Goal(network), proof.parts[0])
        return np.full((2, 2), L) if classes == 1 else np.full((classes, classes), up(up(2**0.5) * L))
    U = _head(network, cut, classes, prod(size))
    L = 1.0 if cut == 0 else prove(Goal(network.between(0, cut)), proof.parts[0])
    return np.nextafter(distances(U) * L, np.inf)


def _head(network: Network, cut: int, classes: int, pixels: int) -> Float[np.ndarray, "classes features"]:
    """The matrix of every pixel behind the cut."""
    last = network.nodes[-1]
    W = pixel_matrix(last.op) if cut in network.cuts and last.inputs == (cut,) else None
    if W is None or len(W) != classes or classes < 2 or last.op.outputs != classes * pixels:
        raise NotProvable(
            "Behind the `cut` of a proof by `pixels` a 1 x 1 convolution to several classes must stand."
        )
    return W


def pixel_matrix(op: object) -> Float[np.ndarray, "classes features"] | None:
    """The matrix that an operator applies at every pixel of channels-first values; None where it is something else."""
    if isinstance(op, OnAxis) and op.before == 1:
        return op.W
    if (
        isinstance(op, Convolution)
        and prod(op.K.shape[2:]) == 1
        and op.groups == 1
        and set(op.stride) == {1}
        and not np.any(op.pads)
    ):
        return op.K.reshape(op.K.shape[:2])
    return None


def paid(costs: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n+1"]:
    """What the k cheapest flips cost together, squared and rounded down, k = 0, 1, ..., n."""
    with np.errstate(over="ignore", under="ignore"):
        square = np.sort(np.square(costs))
        total = np.cumsum(square) * (1 - gamma(len(square) + 8)) - len(square) * TINY
    return np.concatenate([[0.0], np.maximum(np.maximum.accumulate(total), 0.0)])


def budget(reach: float) -> float:
    """The square of a length, rounded up."""
    return up(reach * reach) if reach > 0 else 0.0


def most_flips(costs: Float[np.ndarray, " n"], reach: float) -> int:
    """No change whose reach is that flips more pixels than this."""
    return int(np.searchsorted(paid(costs), budget(reach), side="right")) - 1
