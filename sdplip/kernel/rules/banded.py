r"""Rule `banded`: LipSDP-Neuron of unrolled convolutions, proven row by row of the image (`kernel.strip`).

With S of the strip and F what stands behind it, $[S, F^\top; F, R R^\top] \succeq 0$ says $|x|^2 + 2 \sum_k v_k^\top \Lambda_k (v_k - \beta_k
W_k v_{k-1}) \ge |R^{-1} F v|^2$, and every term of the sum is at most 0 on increments, since $0 \le v_i / z_i \le \beta$. So $F v = R u$ with
$|u| \le |x|$: in front of what follows, the strip is worth the matrix R (Douglas). Behind a last convolution F is one more layer of the band
and R one number, the bound.

Data: `multipliers`, one vector a layer, positive, channels first; and `c`, the number behind a last convolution; or `end`, the value behind
the linear map F, and `R`, with one part: the proof of the network that begins with R.
"""

from dataclasses import replace
from math import prod

import numpy as np

from sdplip.arithmetic.semidefinite import proves_arrow
from sdplip.errors import NotProvable
from sdplip.kernel.data import array, number, vectors, whole
from sdplip.kernel.linear import head
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.strip import MOST, Placed, Strip, leading
from sdplip.kernel.surgery import behind
from sdplip.network import Convolution, Network
from sdplip.shapes import Float

NEAR = 2.0**400
"""Multipliers lie between this and its inverse: then nothing underflows that matters."""


def banded(goal: Goal, proof: Proof, prove: Prove) -> float:
    """`c`, or what the part proves of the network that begins with `R`."""
    network = goal.network
    if "c" in proof.data:
        strip = with_last(network)
        c = number(proof, "c")
        prove_strip(strip, proof, np.full((1, 1), c))
        return c
    strip, at = leading(network)
    end = whole(proof, "end", at + 1, network.output)
    strip = replace(strip, head=head(network, at, end))
    R = array(proof, "R", (strip.rows, strip.rows))
    prove_strip(strip, proof, R)
    if len(proof.parts) != 1:
        raise NotProvable(
            "A proof by `banded` with a matrix `R` has one part, the proof of what begins with it."
        )
    return prove(replace(goal, network=behind(network, end, R), region=None, values=False), proof.parts[0])


def with_last(network: Network) -> Strip:
    """The strip of a network that ends in a convolution.

    Raises:
        NotProvable: it is none.
    """
    strip, at = leading(network)
    op = network.made(at + 1) if at + 1 == network.output else None
    if (
        op is None
        or not isinstance(op.op, Convolution)
        or op.op.circular
        or op.inputs != (at,)
        or not op.op.K.any()
    ):
        raise NotProvable("Behind the strip no last convolution stands, whose bound `c` would be.")
    return replace(strip, last=op.op)


def prove_strip(strip: Strip, proof: Proof, R: Float[np.ndarray, "m m"]) -> None:
    """Nothing, where the multipliers of the proof show that the strip is worth R.

    Raises:
        NotProvable: they do not.
    """
    if not all(beta < NEAR for beta in strip.slopes):
        raise NotProvable("A slope in front of `banded` is too large.")
    lams = vectors(proof, "multipliers", strip.neurons(), least=1 / NEAR)
    if any((lam > NEAR).any() for lam in lams):
        raise NotProvable(
            f"Multipliers of `banded` must lie between {1 / NEAR} and {NEAR}. Rescale the kernels."
        )
    if strip.head is None and not R[0, 0] > 0:
        raise NotProvable("The bound of a strip must be positive.")
    if size(strip) > MOST:
        raise NotProvable(
            f"The band of these convolutions would have more than {MOST} entries. Use `frequency`."
        )
    if not proves_arrow(Placed.of(strip).enclosed(lams, R)):
        raise NotProvable("These multipliers do not prove what the strip is said to be worth.")


def size(strip: Strip) -> int:
    """About how many entries the band has, before anything is built."""
    first = strip.every[0]
    height = max(max(layer.pads[0][0], layer.reach[0]) for layer in strip.every) * prod(
        k.stride[0] for k in strip.every
    )
    row = first.channels * prod(first.image_size[1:]) + sum(
        len(k.K) * prod(k.output_size[1:]) for k in strip.every
    )
    rows = max(1, -(-first.image_size[0] // max(1, height)))
    return rows * (max(1, height) * row) ** 2 * 2
