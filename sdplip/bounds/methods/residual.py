"""Residual layers whose W^T W <= T is proven: spans of the product."""

import numpy as np

from sdplip.arithmetic.powers import nonzero
from sdplip.errors import InvalidProblem, SdplipError
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.residual import Block, block_of
from sdplip.kernel.rules.rounded import rounded_layer, weight
from sdplip.network import Convolution, Network, Sum
from sdplip.proposals import certify, certify_convolution

DEPTH = 6
"""Nodes between the start of a residual layer and its sum, at most."""
APART = 1e-2
"""Of a way down that is the rounded adjoint of the way up: how far its numbers may lie from it, relative to all of them."""


def residual_spans(network: Network) -> list[tuple[int, int, Proof]]:
    """Start, end and proof of every residual layer of a network."""
    found = []
    for end in range(1, network.output + 1):
        node = network.made(end)
        if not isinstance(node.op, Sum) or len(node.inputs) != 2:
            continue
        for start in sorted({*node.inputs, *(i for k in node.inputs if k for i in network.made(k).inputs)}):
            if start >= end or end - start > DEPTH + 8:
                continue
            try:
                part = network.between(start, end)
            except InvalidProblem:
                continue
            if len(part.nodes) > DEPTH:
                continue
            block = block_of(part)
            proof = rounded_proof(part) if block is None else residual_proof(block)
            if proof is not None:
                found.append((start, end, proof))
                break
    return found


def rounded_proof(network: Network) -> Proof | None:
    """The proof of a residual layer whose way down was rounded on its own, with the step that fits best; None where there is none."""
    layer = rounded_layer(network)
    if layer is None or (layer.activation.alpha < 0).any():
        return None
    U, V = (weight(op).reshape(layer.units, -1) for op in (layer.A, layer.V))
    square = (U * U).sum(1)
    step = np.maximum((U * V).sum(1) / np.where(square > 0, square, 1.0), 0.0)
    if np.linalg.norm(V - step[:, None] * U) > APART * np.linalg.norm(V):
        return None
    block = block_of(layer.exact(step))
    part = None if block is None else residual_proof(block)
    return None if part is None else Proof("rounded", {"step": step}, (part,))


def residual_proof(block: Block) -> Proof | None:
    """The proof of a residual layer with the smallest c that is found; None where there is none."""
    if not nonzero(block.weight).any():
        return Proof("residual")
    try:
        if isinstance(block.A, Convolution):
            geometry = block.A.geometry()
            found = certify_convolution(block.weight, block.t, geometry, form="residual", witness=False)
            return Proof("residual", {"c": found.c, "every_size": False, "grid": found.grid})
        return Proof("residual", {"c": certify(block.weight.T, block.t, form="residual").c})
    except SdplipError:
        return None
