"""Proposes witness images of convolutions on images of one size."""

import numpy as np
from jaxtyping import Float

from sdplip.kernel.condition.image import Picture
from sdplip.proposals.lanczos import top_eigenvector

OPERATIONS = 3e10
"""Multiplications that the search may take, but for the least number of steps."""
BASIS = 1e9
"""Pixels times squared steps: what keeping the steps orthogonal may take."""


def propose_image(picture: Picture) -> Float[np.ndarray, "channels *pixels"]:
    """An image that the map stretches nearly as far as it can, fewer steps on large ones."""
    A, r = picture.map, picture.tau**-0.5
    cost = 2.0 * A.outputs * A.terms + 2.0 * A.inputs * A.adjoint_terms
    steps = int(min(100, max(6, min(OPERATIONS / cost, (BASIS / A.inputs) ** 0.5))))
    _, u = top_eigenvector(lambda x: r * A.adjoint(A.apply(r * x)), A.inputs, 1e-6, steps)
    image = r * u
    return (image / abs(image).max()).reshape(picture.shape)
