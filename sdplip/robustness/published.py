"""Table rows that papers report, as data: percent of the test set, radii in l2 of images in [0, 1].

Only cells that a primary or secondary source confirms stand here; cells known from memory alone are left out. `doubt` says why a
row does not count as certified: the bound behind it is an estimate or known to be wrong, whatever its paper calls it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sdplip.errors import InvalidProblem

ONE_SIDED = "epsilon on one side of T, see the erratum of arXiv 2303.03169v2"
POWER = "power iteration estimates norms from below"
SERIES = "orthogonal up to a truncated series and measured norms"
UPDATED = "orthogonal up to a truncated series on the manifold"

LBDN = "table 3 of Wang and Manchester 2023 (LBDN)"
FAIR = "Prach et al. 2024 (1-Lipschitz Layers Compared)"
TABLE4 = f"table 4 of {FAIR}"
BUDGET = f"{FAIR}, 24 h on one A100, size M"
BRO = "rebuttal of BRONet (ICLR 2025)"
AOL = "AOL README"


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table.

    Attributes:
        paper: the name that `--reference` takes.
        model: what the legend says.
        data: data set.
        clean: accuracy in percent, None where the source gives none.
        certified: (radius, percent) as published.
        source: where it was read.
        doubt: why it is not certified; None where nothing is known against it.
        extra_data: trained on generated images too.
        note: what a reader should know besides.
    """

    paper: str
    model: str
    data: str
    clean: float | None
    certified: tuple[tuple[str, float], ...]
    source: str
    doubt: str | None = None
    extra_data: bool = False
    note: str = ""


RADII = ("36/255", "72/255", "108/255", "1")


def _row(
    paper: str,
    model: str,
    data: str,
    clean: float | None,
    cells: Iterable[float | None],
    source: str,
    doubt: str | None = None,
    *,
    extra_data: bool = False,
    note: str = "",
) -> PublishedRow:
    """A row with `cells` at the radii of the literature, None where the source gives no number."""
    certified = tuple((r, cell) for r, cell in zip(RADII, cells, strict=False) if cell is not None)
    return PublishedRow(paper, model, data, clean, certified, source, doubt, extra_data, note)


ROWS: tuple[PublishedRow, ...] = (
    PublishedRow("GloRo", "GloRo", "mnist", 97.0, (("1.58", 62.8),), "Leino et al. 2021 (GloRo)", POWER),
    # ------------------------------------------------------------------------------------------- CIFAR-10
    _row("SLL", "SLL S (v1)", "cifar10", None, [62.6], "secondary", ONE_SIDED),
    _row("SLL", "SLL XL (v1)", "cifar10", 73.3, [65.8, 58.4, 51.3, 27.3], TABLE4, ONE_SIDED),
    _row("SLL", "SLL XL (v2)", "cifar10", 73.3, [64.8], "secondary, erratum", note="corrected values"),
    _row("CPL", "CPL XL", "cifar10", 78.5, [64.4, 48.0, 33.0], TABLE4, POWER),
    _row("AOL", "AOL S", "cifar10", 69.8, [62.0, 54.4, 47.1, 21.8], "secondary"),
    _row("AOL", "AOL M", "cifar10", 71.1, [63.8, 56.1, 48.6, 23.2], "secondary"),
    _row("AOL", "AOL L", "cifar10", 71.4, [64.1, 56.5, 49.4, 23.8], AOL),
    _row("AOL", "AOL S, offset 4√2", "cifar10", 59.9, [55.0, 50.6, 46.3, 31.1], AOL),
    _row("BCOP", "BCOP L", "cifar10", 72.1, [58.2], TABLE4),
    _row("Cayley", "Cayley KW-Large", "cifar10", 75.3, [59.1], TABLE4),
    _row("SOC", "SOC LipNet-25", "cifar10", 76.4, [61.9], TABLE4, SERIES),
    _row("SOC", "SOC LipNet-15 + CRC", "cifar10", 79.4, [67.0, 52.6, 38.3], TABLE4, SERIES),
    _row("LOT", "LOT LipNet-25", "cifar10", 76.8, [64.4, 49.8, 37.3], TABLE4),
    _row("GloRo", "GloRo 6C2F", "cifar10", None, [60.0], "GloRo README", POWER),
    _row("LipShiFT", "LipShiFT", "cifar10", 71.8, [63.2], "LipShiFT README", POWER, extra_data=True),
    _row("LiResNet", "LiResNet", "cifar10", 81.0, [69.8, 56.3, 42.9], BRO, POWER, note="recipe of 2024"),
    _row("LiResNet", "LiResNet + EDM", "cifar10", 87.0, [78.1, 66.6, 53.5], BRO, POWER, extra_data=True),
    _row("BRONet", "BRONet-L", "cifar10", 81.0, [70.2, 57.1, 43.0], BRO, POWER),
    _row("BRONet", "BRONet-L + LA", "cifar10", 81.6, [70.6, 57.2, 42.5], BRO, POWER),
    _row("LipNeXt", "LipNeXt L32W1024", "cifar10", 81.5, [71.2, 59.2, 45.9], "secondary notes", UPDATED),
    _row("LipNeXt", "LipNeXt L32W2048", "cifar10", 85.0, [73.2, 58.8, 43.3], "secondary notes", UPDATED),
    _row("1LLC", "AOL-M, 24 h", "cifar10", 73.4, [61.0, 47.1, 34.7, 4.9], BUDGET),
    _row("1LLC", "BCOP-M, 24 h", "cifar10", 74.0, [60.5, 45.7, 32.2, 3.4], BUDGET),
    _row("1LLC", "CPL-M, 24 h", "cifar10", 76.7, [65.1, 51.5, 38.1, 5.5], BUDGET, POWER),
    _row("1LLC", "Cayley-M, 24 h", "cifar10", 74.4, [61.0, 46.3, 33.0, 3.2], BUDGET),
    _row("1LLC", "LOT-M, 24 h", "cifar10", 72.0, [58.7, 43.7, 30.9, 2.8], BUDGET),
    _row(
        "1LLC",
        "SLL-M, 24 h",
        "cifar10",
        75.3,
        [62.8, 48.9, 35.8, 4.8],
        BUDGET,
        note="second epsilon fix; dense layers of that code still add epsilon on one side of T",
    ),
    _row("1LLC", "SOC-M, 24 h", "cifar10", 76.9, [66.3, 53.4, 40.0, 6.7], BUDGET, SERIES),
    # ------------------------------------------------------------------------------------------- CIFAR-100
    _row("SLL", "SLL S (v1)", "cifar100", 44.9, [34.7], LBDN, ONE_SIDED),
    _row("SLL", "SLL XL (v1)", "cifar100", 46.5, [36.5], LBDN, ONE_SIDED),
    _row("AOL", "AOL S", "cifar100", 42.4, [32.5, 24.8, 19.2, 6.7], "secondary"),
    _row("AOL", "AOL M", "cifar100", 43.2, [33.7, 26.0, 20.2, 7.2], "secondary"),
    _row("AOL", "AOL L", "cifar100", 43.7, [33.7, 26.3, 20.7, 7.8], AOL),
    _row("SOC", "SOC + CR", "cifar100", 47.8, [34.8, 23.7, 15.8], "secondary", SERIES),
    _row("Sandwich", "Sandwich", "cifar100", 46.3, [35.3], LBDN),
    _row("LipShiFT", "LipShiFT", "cifar100", 43.3, [34.1], "LipShiFT README", POWER, extra_data=True),
    _row("LiResNet", "LiResNet", "cifar100", 53.0, [40.2, 28.3, 19.2], BRO, POWER, note="recipe of 2024"),
    _row("LiResNet", "LiResNet + EDM", "cifar100", 62.1, [50.1, 38.5, 29.0], BRO, POWER, extra_data=True),
    _row("BRONet", "BRONet-L + LA", "cifar100", 54.3, [40.2, 29.1, 20.3], BRO, POWER),
    _row("LipNeXt", "LipNeXt L32W2048", "cifar100", 57.4, [44.1, 31.9, 22.2], "secondary notes", UPDATED),
    _row("1LLC", "AOL-M, 24 h", "cifar100", 44.3, [31.4], BUDGET),
    _row("1LLC", "BCOP-M, 24 h", "cifar100", 43.7, [31.2], BUDGET),
    _row("1LLC", "CPL-M, 24 h", "cifar100", 45.2, [33.2], BUDGET, POWER),
    _row("1LLC", "Cayley-M, 24 h", "cifar100", 43.5, [30.5], BUDGET),
    _row("1LLC", "LOT-M, 24 h", "cifar100", 42.8, [29.6], BUDGET),
    _row("1LLC", "SLL-M, 24 h", "cifar100", 42.4, [29.9], BUDGET, note="as on CIFAR-10"),
    _row("1LLC", "SOC-M, 24 h", "cifar100", 47.3, [34.9], BUDGET, SERIES),
    # ------------------------------------------------------------------------------------------- Tiny-ImageNet
    _row("SLL", "SLL S (v1)", "tiny_imagenet", 26.6, [19.5], LBDN, ONE_SIDED),
    _row("SLL", "SLL XL (v1)", "tiny_imagenet", 32.1, [23.0], LBDN, ONE_SIDED),
    _row("Sandwich", "Sandwich", "tiny_imagenet", 33.4, [24.7], LBDN),
    _row("GloRo", "GloRo 8C2F", "tiny_imagenet", None, [22.4], "GloRo README", POWER),
    _row("LipShiFT", "LipShiFT", "tiny_imagenet", 36.2, [28.1], "LipShiFT README", POWER, extra_data=True),
    _row("LiResNet", "LiResNet", "tiny_imagenet", 40.9, [26.2, 15.7, 8.9], BRO, POWER, note="recipe of 2024"),
    _row("BRONet", "BRONet", "tiny_imagenet", 40.5, [26.9, 17.1, 10.1], BRO, POWER),
    _row("BRONet", "BRONet + LA", "tiny_imagenet", 41.2, [29.0, 19.0, 12.1], BRO, POWER),
    _row("LipNeXt", "LipNeXt L32W2048", "tiny_imagenet", 45.5, [35.0, 25.9, 18.0], "secondary notes", UPDATED),
    _row("1LLC", "AOL-M, 24 h", "tiny_imagenet", 30.3, [21.0], BUDGET),
    _row("1LLC", "BCOP-M, 24 h", "tiny_imagenet", 27.6, [17.2], BUDGET),
    _row("1LLC", "CPL-M, 24 h", "tiny_imagenet", 29.8, [20.3], BUDGET, POWER),
    _row("1LLC", "Cayley-M, 24 h", "tiny_imagenet", 30.1, [19.3], BUDGET),
    _row("1LLC", "LOT-M, 24 h", "tiny_imagenet", 28.8, [18.1], BUDGET),
    _row("1LLC", "SLL-M, 24 h", "tiny_imagenet", 26.5, [17.7], BUDGET, note="as on CIFAR-10"),
    _row("1LLC", "SOC-M, 24 h", "tiny_imagenet", 32.1, [21.2], BUDGET, SERIES),
)  # fmt: skip


def papers() -> tuple[str, ...]:
    """The names that `published` takes, in the order of the table."""
    return tuple(dict.fromkeys(row.paper for row in ROWS))


def published(name: str, data: str | None = None) -> tuple[PublishedRow, ...]:
    """The rows of one paper, or of one model; without regard to case.

    Args:
        name: a paper such as "SLL", or a model such as "SLL XL (v2)".
        data: only rows about this data set.

    Raises:
        InvalidProblem: no such row.
    """
    wanted = name.strip().lower()
    named = [row for row in ROWS if wanted in (row.paper.lower(), row.model.lower())]
    if not named:
        raise InvalidProblem(
            f"No published row is called `{name}`. Papers with rows: {', '.join(papers())}; or give a model, such as `AOL L`."
        )
    found = tuple(row for row in named if data in (None, row.data))
    if not found:
        sets = ", ".join(dict.fromkeys(row.data for row in named))
        raise InvalidProblem(
            f"`{name}` has no published row about `{data}`, only about {sets}. Drop the reference, or choose one of those."
        )
    return found
