"""A small file that was damaged is named, and says what to do, wherever it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.errors import ArtefactError
from experiments.files import damaged_results, read_json, replace_json


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


@pytest.mark.parametrize("content", [b'{"a": 1', b"[1]"])
def test_a_damaged_result_of_a_job_is_as_absent_and_named_until_it_is_written_anew(tmp_path: Path, content: bytes) -> None:
    for path in (tmp_path / "reports" / "a.json", tmp_path / "worker.json"):
        replace_json(path, {})
        path.write_bytes(content)
        assert read_json(path) is None
        assert [str(path) in error.what for error in damaged_results(tmp_path)] == [True]
        replace_json(path, {"n": 1})
        assert (read_json(path), damaged_results(tmp_path)) == ({"n": 1}, [])


def test_a_home_that_is_called_like_a_folder_of_results_keeps_what_nobody_writes_anew(tmp_path: Path) -> None:
    home = tmp_path / "reports"
    home.mkdir()
    (home / "control.db").touch()
    (home / "tokens.json").write_bytes(b"{")
    with pytest.raises(ArtefactError, match=r"tokens\.json is damaged"):
        read_json(home / "tokens.json")
