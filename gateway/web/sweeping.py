"""Garbage of pages is swept a little at a time.

A template with macros leaves some hundred objects that refer to one another, which only the cyclic collector
frees. The gateway lets it look rarely, because messages leave none (GC_THRESHOLDS in parts.py); pages alone
would let half a million objects gather, and then everybody would wait for a third of a second. So after so
many requests the youngest generation is looked through, which takes a millisecond; every so many times the
middle one, too, and rarely all.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

YOUNG_EVERY = 64
"""requests between two looks at the youngest objects"""
MIDDLE_EVERY = 16
"""every so many of those looks also at what outlived one"""
ALL_EVERY = 2_000
"""every so many at everything: a request under way during the others leaves a little behind"""


class Sweeper:
    """Counts requests, and says when which generation is looked through."""

    def __init__(self, collect: Callable[[int], object] = gc.collect) -> None:
        self._collect = collect
        self._requests = self._looks = 0

    def answered(self) -> bool:
        """One more request; whether it is time to sweep."""
        self._requests += 1
        return self._requests % YOUNG_EVERY == 0

    def sweep(self) -> None:
        """Look through the youngest generation, or more."""
        self._looks += 1
        middle = 0 if self._looks % MIDDLE_EVERY else 1
        self._collect(middle if self._looks % ALL_EVERY else 2)
