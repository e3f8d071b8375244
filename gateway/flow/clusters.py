"""Problem clusters: what is found more often on one model and firmware than on the rest of its kind.

Observed are the products of a group on which a rule found something, expected what the fleet of the kind
would give a group of that size. The 95 % interval of their ratio is Byar's approximation of the exact
Poisson limits (Breslow and Day, Statistical Methods in Cancer Research II, 1987, equation 2.8): a group
whose interval contains 1 could be chance.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import sqrt

from gateway.domain.measures import Cell
from gateway.domain.moments import DAY_MS
from gateway.ports import Records

SPAN_DAYS = 14
Z = 1.96
"""of a two-sided 95 % interval"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """One rule on one model and firmware."""

    cell: Cell
    products: int
    """how many there are of this model and firmware"""
    expected: float | None
    """products on which the whole kind's share would find it; None where the group is all of its kind"""
    ratio: tuple[float, float, float] | None
    """observed to expected: value, lower and upper end of the 95 % interval"""

    @property
    def sure(self) -> bool:
        """Whether it is more than chance."""
        return self.ratio is not None and self.ratio[1] > 1


def clusters(records: Records, now: int, days: int = SPAN_DAYS) -> list[Cluster]:
    """Of the last `days`: what is surely more than expected first, then by how many products."""
    cells = records.analytics.cells(now - days * DAY_MS, now - days * DAY_MS // 2)
    fleet = records.analytics.fleet()
    kinds: Counter[str] = Counter()
    for (kind, _, _), products in fleet.items():
        kinds[kind] += products
    found = Counter[tuple[str, str]]()
    for cell in cells:
        found[cell.rule, cell.kind] += cell.observed
    made = [
        _cluster(cell, fleet.get((cell.kind, cell.model, cell.firmware), 0), kinds[cell.kind], found)
        for cell in cells
    ]
    return sorted(made, key=lambda c: (not c.sure, -c.cell.observed, c.cell.rule, c.cell.model))


def _cluster(cell: Cell, products: int, kind: int, found: Counter[tuple[str, str]]) -> Cluster:
    expected, ratio = against(cell.observed, products, kind, found[cell.rule, cell.kind])
    return Cluster(cell=cell, products=products, expected=expected, ratio=ratio)


def against(
    observed: int, products: int, kind: int, found: int
) -> tuple[float | None, tuple[float, float, float] | None]:
    """(expected, (observed to expected, lower and upper end of its 95 % interval)) of `products` out of
    `kind`, on which `found` were found in all; None where there is nothing to hold it against."""
    if products >= kind or not products or not found:
        return None, None
    expected = products * found / kind
    low, high = poisson(observed)
    return expected, (observed / expected, low / expected, high / expected)


def poisson(count: int) -> tuple[float, float]:
    """The 95 % limits of the mean of which `count` was seen."""
    above = count + 1
    low = count * (1 - 1 / (9 * count) - Z / (3 * sqrt(count))) ** 3 if count else 0.0
    return low, above * (1 - 1 / (9 * above) + Z / (3 * sqrt(above))) ** 3
