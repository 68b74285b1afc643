"""The bound of a part is kept for its own goal alone."""

from contextlib import suppress

import numpy as np
import pytest

from sdplip.bounds.choose import bound
from sdplip.errors import NotProvable
from sdplip.kernel.accuracy import remembering
from sdplip.kernel.proof import Goal, Proof
from sdplip.network import Dense, chain


def test_a_part_that_stands_twice_is_proven_of_each_goal():
    small, large = (chain([Dense(s * np.eye(2))]) for s in (1.0, 9.0))
    part = bound(small, "product").proof
    prove = remembering(Proof("pairs", parts=(part, part)))
    assert prove(Goal(small), part) == pytest.approx(1)
    with suppress(NotProvable):
        assert prove(Goal(large), part) >= 9


def test_a_part_that_stands_once_is_proven_once():
    network = chain([Dense(np.eye(2))])
    part = bound(network, "product").proof
    prove = remembering(Proof("margins", parts=(part,)))
    assert prove(Goal(network), part) == prove(Goal(network), part) == pytest.approx(1)
