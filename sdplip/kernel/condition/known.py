"""What was proven in this process: norms of convolutions take seconds, and a proof is concluded right after it was proposed."""

from collections import OrderedDict

_PROVEN: OrderedDict[bytes, float] = OrderedDict()
MOST = 4096
"""Statements that are remembered."""


def remember(digest: bytes, c: float) -> None:
    """A statement, by the digest of all that it is about, was proven for `c`: so it holds for all that is larger."""
    _PROVEN[digest] = min(c, _PROVEN.pop(digest, c))
    if len(_PROVEN) > MOST:
        _PROVEN.popitem(last=False)


def known(digest: bytes) -> float | None:
    """The least c for which the statement was proven, None if it never was."""
    return _PROVEN.get(digest)


def forget() -> None:
    """Everything: for tests, which prove again."""
    _PROVEN.clear()
