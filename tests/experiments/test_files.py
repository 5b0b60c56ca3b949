"""A small file that was damaged is named, and says what to do, wherever it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.errors import ArtefactError
from experiments.files import read_json, replace_json


def test_what_was_written_is_read_and_an_absent_file_is_none(tmp_path: Path) -> None:
    replace_json(tmp_path / "a.json", {"says": "ä", "n": 1})
    assert read_json(tmp_path / "a.json") == {"says": "ä", "n": 1}
    assert read_json(tmp_path / "b.json") is None


def test_a_list_is_read_where_one_is_expected(tmp_path: Path) -> None:
    replace_json(tmp_path / "a.json", [1, 2])
    assert read_json(tmp_path / "a.json", of=(dict, list)) == [1, 2]


@pytest.mark.parametrize("content", [b'{"a": 1', b"[1]", b"", b"\xff\xfe", b"null"])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"a\.json is damaged: ") as caught:
        read_json(tmp_path / "a.json")
    assert "Restore it from a backup, or remove it" in str(caught.value)
