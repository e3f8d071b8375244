"""Texts: files of one language become one tree."""

from pathlib import Path

import pytest

import config


@pytest.fixture
def languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config, "_HERE", tmp_path)
    config.messages.cache_clear()
    folder = tmp_path / "messages" / "en"
    folder.mkdir(parents=True)
    return folder


def test_files_of_a_language_are_merged_key_by_key(languages: Path) -> None:
    (languages / "a.yaml").write_text("inbox: {title: Inbox}\n")
    (languages / "b.yaml").write_text("inbox: {empty: Nothing}\nday: Day\n")
    assert config.messages("en") == {"inbox": {"title": "Inbox", "empty": "Nothing"}, "day": "Day"}


def test_a_text_in_two_files_is_refused(languages: Path) -> None:
    (languages / "a.yaml").write_text("inbox: {title: Inbox}\n")
    (languages / "b.yaml").write_text("inbox: {title: Post}\n")
    with pytest.raises(ValueError, match=r"b\.yaml: inbox: title stands in two files"):
        config.messages("en")


def test_a_language_that_is_not_shipped_is_named(languages: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'fr'"):
        config.messages("fr")
