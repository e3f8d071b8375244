"""Conditions over signals, and what they lead to: pure, without I/O, event loop or clock."""

from rules.engine import Cleared, ClearReason, Episode, Found
from rules.readings import Known, Value
from rules.signals import Catalogue, Display, Kind, Signal, SignalType, Wear
from rules.texts import Fault, RuleErrors, RulesError, SignalErrors, StateVersionError, TextErrors

__all__ = [
    "Catalogue",
    "ClearReason",
    "Cleared",
    "Display",
    "Episode",
    "Fault",
    "Found",
    "Kind",
    "Known",
    "RuleErrors",
    "RulesError",
    "Signal",
    "SignalErrors",
    "SignalType",
    "StateVersionError",
    "TextErrors",
    "Value",
    "Wear",
]
