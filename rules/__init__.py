"""Conditions over signals, and what they lead to: pure, without I/O, event loop or clock."""

from rules.backtest import Backtest, KnownDevice, Truth
from rules.catalogue import Contact, Example, Rule, RuleSet, check, load
from rules.engine import Cleared, ClearReason, Engine, Episode, Found
from rules.examples import ExampleResult, run_examples
from rules.functions import FUNCTIONS, Function
from rules.readings import Known, Value
from rules.schema import rule_schema, signal_schema
from rules.signals import Catalogue, Display, Kind, Signal, SignalType, Wear
from rules.texts import (
    Fault,
    RuleErrors,
    RulesError,
    SignalErrors,
    StateVersionError,
    TextErrors,
    span_ms,
)

__all__ = [
    "FUNCTIONS",
    "Backtest",
    "Catalogue",
    "ClearReason",
    "Cleared",
    "Contact",
    "Display",
    "Engine",
    "Episode",
    "Example",
    "ExampleResult",
    "Fault",
    "Found",
    "Function",
    "Kind",
    "Known",
    "KnownDevice",
    "Rule",
    "RuleErrors",
    "RuleSet",
    "RulesError",
    "Signal",
    "SignalErrors",
    "SignalType",
    "StateVersionError",
    "TextErrors",
    "Truth",
    "Value",
    "Wear",
    "check",
    "load",
    "rule_schema",
    "run_examples",
    "signal_schema",
    "span_ms",
]
