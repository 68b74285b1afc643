"""Both sides of a network's Lipschitz constant while it is trained."""

import copy

from jaxtyping import UInt8
from torch import Tensor, nn

from sdplip.bounds.choose import bound
from sdplip.errors import SdplipError
from sdplip.network.read.anything import understand
from sdplip.nn import lipschitz
from sdplip.training.data import as_float

SECONDS = 10.0
"""Budget of a bound."""

START = 256
"""Images at which the search from below begins, at most."""


def sides(
    model: nn.Module, images: UInt8[Tensor, "n c h w"], *, seconds: float = SECONDS
) -> tuple[float | None, float | None]:
    """A proven bound of the network as it stands, and the largest Jacobian norm found; None where one is not known.

    The bound is the lesser one of `sdplip.nn.lipschitz` and the best that `sdplip.bound` finds within `seconds`. The network is
    copied: neither its mode nor its device changes.
    """
    still = copy.deepcopy(model).cpu().eval()
    shape = tuple(images.shape[1:])
    found: list[float] = []
    lower = None
    try:
        found.append(lipschitz(still, input_shape=shape).value)
        points = as_float(images[:START].cpu()).numpy()
        whole = bound(understand(still, input_shape=shape).network, seconds=seconds, points=points)
        found.append(whole.bound)
        lower = whole.lower
    except SdplipError:  # what one of them cannot read, the other may
        pass
    return min(found, default=None), lower
