r"""How far outputs can move from their values at the centre of a ball, per unit of distance: constants for radii.

For $|x' - x| \le r$ every neuron obeys $\varphi(z') - \varphi(z) = D (z' - z)$, D the slope of the secant from the centre's z:
these are fewer slopes than occur on the ball. `Front.of(network)` is made once a network, `.at(x)` once a centre,
`Around.of(centre, r)` once a ball; that has `gains(rows)`, and `network()` with the slopes of secants. `Bends.of(around)` bounds how far
rows fall by gradient and curvature. `docs/proofs.md` gathers the proofs.
"""

from sdplip.kernel.centred.ball import Around
from sdplip.kernel.centred.curvature import Bends, smooth
from sdplip.kernel.centred.front import Centre, Front

__all__ = ["Around", "Bends", "Centre", "Front", "smooth"]
