"""Which codec reads a topic that is not ours: the topic filters of the settings, the first that matches.

The level of the first wildcard names the device: `senml/+`, `plant/+/telemetry`, `senml/#`. Sparkplug has
topics of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from gateway.adapters.codec_senml import SenML, read_cbor, read_json
from gateway.adapters.codec_signals import Signals
from gateway.adapters.codec_sparkplug import Births, Sparkplug
from gateway.adapters.codecs import KNOWN_TOPICS, Taker, check_device
from rules import Catalogue


class Choice:
    """Gives the codec of a topic."""

    def __init__(
        self,
        formats: Mapping[str, str],
        catalogue: Catalogue,
        births: Births,
        *,
        claimed: Callable[[str], bool] | None,
        ahead_ms: int,
    ) -> None:
        """`formats` maps topic filters to senml_json, senml_cbor or sparkplug."""
        signals = Signals(catalogue)
        self._takers: list[tuple[re.Pattern[str], Taker]] = []
        for pattern, name in formats.items():
            taker: Taker
            if name == "sparkplug":
                taker = Sparkplug(births, signals, claimed=claimed, ahead_ms=ahead_ms)
            else:
                taker = SenML(
                    {"senml_json": read_json, "senml_cbor": read_cbor}[name],
                    signals,
                    device_of=partial(_device, level(pattern)),
                    claimed=claimed,
                    ahead_ms=ahead_ms,
                )
            self._takers.append((expression(pattern), taker))
        self._known: dict[str, Taker | None] = {}

    def __call__(self, topic: str) -> Taker | None:
        """None when no filter matches."""
        try:
            return self._known[topic]
        except KeyError:
            found = next((taker for matches, taker in self._takers if matches.fullmatch(topic)), None)
            if len(self._known) >= KNOWN_TOPICS:
                self._known.clear()
            self._known[topic] = found
            return found


def level(pattern: str) -> int:
    """Which level of a topic filter is its first wildcard."""
    return next(at for at, part in enumerate(pattern.split("/")) if part in ("+", "#"))


def expression(pattern: str) -> re.Pattern[str]:
    """A topic filter (MQTT 5, section 4.7.1) as a regular expression; # stands for one level at least."""
    parts = {"+": "[^/]+", "#": ".+"}
    return re.compile("/".join(parts.get(part) or re.escape(part) for part in pattern.split("/")), re.DOTALL)


def _device(at: int, topic: str) -> str:
    return check_device(topic.split("/")[at])
