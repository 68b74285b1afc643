"""The claim that a network expands: inputs that are apart have outputs that are. Its check stands in `verify`."""

from dataclasses import dataclass
from typing import Any

from sdplip.arithmetic.decimals import below


@dataclass(frozen=True, eq=False)
class ExpansionClaim:
    r"""$\lVert f(x) - f(y) \rVert \ge$ `lower` $\lVert x - y \rVert$ for all x and y, all outputs together."""

    lower: float

    def words(self) -> str:
        return f"f moves outputs at least {below(self.lower)} times as far apart as its inputs (Euclidean norms), for all inputs"

    def to_json(self) -> dict[str, Any]:
        return {"kind": "expansion", "lower": self.lower}
