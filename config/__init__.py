"""What can be set, and the data that ships with it: signals, rules, messages."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).resolve().parent
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it, an eighth of the time; the texts are 300 kB at every start."""


def data_path(*parts: str) -> Path:
    """A shipped file or folder, in a checkout and in an installed wheel alike: ``data_path("rules")``."""
    return _HERE.joinpath(*parts)


@cache
def messages(language: str) -> dict[str, Any]:
    """All texts of one language: config/messages/{language}/*.yaml merged into nested dicts.

    Raises FileNotFoundError for a language that is not shipped, ValueError for a key in two files.
    """
    folder = data_path("messages", language)
    if not folder.is_dir():
        raise FileNotFoundError(f"no messages for language {language!r}")
    texts: dict[str, Any] = {}
    for file in sorted(folder.glob("*.yaml")):
        _merge(texts, yaml.load(file.read_text(encoding="utf-8"), _Loader) or {}, file.name)
    return texts


def _merge(into: dict[str, Any], texts: dict[str, Any], where: str) -> None:
    for key, value in texts.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value, f"{where}: {key}")
        elif key in into:
            raise ValueError(f"{where}: {key} stands in two files")
        else:
            into[key] = value
