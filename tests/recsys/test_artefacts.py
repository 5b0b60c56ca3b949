"""Bundles: what was written comes back, and nothing else does."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from experiments.errors import ArmError, ArtefactError, NotFoundError
from experiments.files import replace_json
from experiments.serving.artefacts import current, load_current, publish, read_bundle, rollback, stays, thaw, versions, write_bundle

ARRAYS = {"factors": np.arange(6, dtype=np.float32).reshape(3, 2), "leaf": np.array([True, False]), "child": np.array([1, 2], np.int32)}


def written(home: Path, factor: float = 1.0) -> str:
    return write_bundle(home / "models" / "als", {"factors": np.full((3, 2), factor, np.float32)}, {"seed": 1}).version


def test_a_bundle_comes_back_as_it_was_written(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "als", ARRAYS, {"seed": 7, "features": ["age"]})
    arrays, manifest = read_bundle(bundle.path, sha256=bundle.sha256)
    assert {name: a.tolist() for name, a in arrays.items()} == {name: a.tolist() for name, a in ARRAYS.items()}
    assert (manifest["seed"], manifest["features"], manifest["version"]) == (7, ["age"], "1")


def test_equal_arrays_have_equal_content_hash(tmp_path: Path) -> None:
    first, second = (write_bundle(tmp_path / "als", ARRAYS, {"seed": 7}) for _ in range(2))
    assert first.content_sha256 == second.content_sha256
    assert (first.version, second.version) == ("1", "2")


@pytest.mark.parametrize("name", ["arrays.npz", "manifest.json"])
def test_any_changed_byte_is_refused(tmp_path: Path, name: str) -> None:
    bundle = write_bundle(tmp_path / "als", ARRAYS, {"seed": 7})
    file = bundle.path / name
    content = file.read_bytes()
    for i in range(0, len(content), max(1, len(content) // 150)):
        file.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(ArtefactError):
            read_bundle(bundle.path, sha256=bundle.sha256)
    file.write_bytes(content)
    read_bundle(bundle.path, sha256=bundle.sha256)


def test_a_cut_or_missing_file_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "als", ARRAYS, {})
    content = (bundle.path / "arrays.npz").read_bytes()
    (bundle.path / "arrays.npz").write_bytes(content[:-1])
    with pytest.raises(ArtefactError, match="changed"):
        read_bundle(bundle.path)
    (bundle.path / "arrays.npz").unlink()
    with pytest.raises(ArtefactError, match="cannot be opened"):
        read_bundle(bundle.path)


def forge(folder: Path, content: bytes, arrays: dict[str, object]) -> Path:
    """A bundle whose hashes are right and whose content is hostile."""
    folder.mkdir()
    (folder / "arrays.npz").write_bytes(content)
    files = {"arrays.npz": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}}
    (folder / "manifest.json").write_text(json.dumps({"layout": 1, "files": files, "arrays": arrays}))
    return folder


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, factors=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ArtefactError, match="plain arrays"):
        read_bundle(forge(tmp_path / "1", buffer.getvalue(), {"factors": {"dtype": "|O", "shape": [1]}}))


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path: Path) -> None:
    buffer, array = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3_000_000))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("factors.npy", array.getvalue())
    with pytest.raises(ArtefactError, match="would unpack"):
        read_bundle(forge(tmp_path / "1", buffer.getvalue(), {"factors": {"dtype": "<f8", "shape": [3_000_000]}}))


def test_arrays_must_be_those_of_the_manifest(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, factors=np.zeros((2, 2)), more=np.zeros(1))
    with pytest.raises(ArtefactError) as caught:
        read_bundle(forge(tmp_path / "1", buffer.getvalue(), {"factors": {"dtype": "<f8", "shape": [3, 2]}}))
    assert "'more' is in only one" in str(caught.value)
    assert "'factors' is <f8[2, 2]" in str(caught.value)


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan]), np.array([np.inf]), np.array(["a"]), np.array([None])])
def test_objects_text_and_infinite_values_are_not_written(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ArtefactError, match="not written"):
        write_bundle(tmp_path / "als", {"bad": bad}, {})
    assert versions(tmp_path / "als") == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "als", ARRAYS, {})
    (bundle.path / "arrays.npz").rename(tmp_path / "elsewhere.npz")
    (bundle.path / "arrays.npz").symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(ArtefactError, match="cannot be opened"):
        read_bundle(bundle.path)


def test_nothing_is_in_force_before_the_first_publication(tmp_path: Path) -> None:
    written(tmp_path)
    assert current(tmp_path, "als") is None
    assert load_current(tmp_path, "als") is None
    with pytest.raises(NotFoundError, match="no earlier version"):
        rollback(tmp_path, "als", at_us=1)


def test_publishing_keeps_three_versions_and_rolls_back_through_them(tmp_path: Path) -> None:
    for i in range(1, 6):
        publish(tmp_path, "als", written(tmp_path, i), at_us=i)
    assert versions(tmp_path / "models" / "als") == ["3", "4", "5"]
    assert [rollback(tmp_path, "als", at_us=9).version for _ in range(2)] == ["4", "3"]
    loaded = load_current(tmp_path, "als")
    assert loaded is not None
    assert loaded[0]["factors"][0, 0] == 3.0
    with pytest.raises(NotFoundError):
        rollback(tmp_path, "als", at_us=9)
    assert rollback(tmp_path, "als", to="5", at_us=10).version == "5"
    assert versions(tmp_path / "models" / "als") == ["3", "4", "5"]


def test_after_a_rollback_that_freezes_no_newer_version_follows_until_somebody_says_so(tmp_path: Path) -> None:
    for i in (1, 2):
        publish(tmp_path, "als", written(tmp_path, i), at_us=i)
    rollback(tmp_path, "als", at_us=3, frozen="10 of 10 readers met an error")
    newer = written(tmp_path, 3)
    assert stays(tmp_path, "als").startswith("'als' stays at version 1: 10 of 10 readers met an error. When that is mended: presslab arm")
    with pytest.raises(ArmError, match="stays at version 1"):
        publish(tmp_path, "als", newer, at_us=4)
    thawed = thaw(tmp_path, "als")
    assert thawed is not None
    assert (thawed.version, thawed.at, stays(tmp_path, "als")) == ("1", 3, "")
    assert publish(tmp_path, "als", newer, at_us=5).previous == ("1",)


def test_a_training_that_ends_while_somebody_rolls_back_does_not_undo_it(tmp_path: Path) -> None:
    for i in (1, 2):
        publish(tmp_path, "als", written(tmp_path, i), at_us=i)
    newer, folder = written(tmp_path, 3), tmp_path / "models" / "als"
    with ThreadPoolExecutor(2) as pool, (folder / ".turn").open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        back = pool.submit(rollback, tmp_path, "als", at_us=3, frozen="it harms")
        wait([back], timeout=0.05)
        trained = pool.submit(publish, tmp_path, "als", newer, at_us=4)
        wait([trained], timeout=0.05)
        assert not back.done()
        assert not trained.done()
        fcntl.flock(turn, fcntl.LOCK_UN)
        assert back.result().version != newer
        assert trained.exception() is None or isinstance(trained.exception(), ArmError)  # whoever came first, the rollback stands
    assert "it harms" in stays(tmp_path, "als")


def test_whoever_lets_versions_follow_again_does_not_undo_what_moved_in_that_moment(tmp_path: Path) -> None:
    for i in (1, 2, 3):
        publish(tmp_path, "als", written(tmp_path, i), at_us=i)
    pointer, path = rollback(tmp_path, "als", at_us=4, frozen="it harms"), tmp_path / "models" / "als" / "current.json"
    with ThreadPoolExecutor(1) as pool, path.with_name(".turn").open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        thawed = pool.submit(thaw, tmp_path, "als")
        wait([thawed], timeout=0.05)
        replace_json(path, asdict(pointer) | {"version": "1"})  # as whoever has the turn does
    assert (thawed.result(), current(tmp_path, "als")) == (replace(pointer, version="1", frozen=""),) * 2


def test_a_damaged_pointer_says_how_to_go_on(tmp_path: Path) -> None:
    publish(tmp_path, "als", written(tmp_path), at_us=1)
    path = tmp_path / "models" / "als" / "current.json"
    path.write_text("{")
    with pytest.raises(ArtefactError, match="Move it away, then `arm rollback --to`"):
        current(tmp_path, "als")
    path.unlink()
    assert rollback(tmp_path, "als", to="1", at_us=2).version == "1"


def test_a_damaged_version_leaves_the_last_good_one_in_force(tmp_path: Path) -> None:
    publish(tmp_path, "als", written(tmp_path), at_us=1)
    bad = written(tmp_path, 2.0)
    file = tmp_path / "models" / "als" / bad / "arrays.npz"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ArtefactError):
        publish(tmp_path, "als", bad, at_us=2)
    pointer = current(tmp_path, "als")
    assert pointer is not None
    assert (pointer.version, pointer.at) == ("1", 1)


def test_a_manifest_swapped_after_publication_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, "als", written(tmp_path), at_us=1)
    other = written(tmp_path, 2.0)
    folder = tmp_path / "models" / "als"
    for name in ("arrays.npz", "manifest.json"):
        (folder / "1" / name).write_bytes((folder / other / name).read_bytes())
    read_bundle(folder / "1")  # consistent in itself ...
    with pytest.raises(ArtefactError, match="not the one that was published"):
        load_current(tmp_path, "als")  # ... but not what the pointer names


@pytest.mark.parametrize("text", ["[]", "{", '{"version": "../../x", "sha256": "", "at": 1}', '{"version": "1"}'])
def test_a_pointer_that_names_no_version_is_refused(tmp_path: Path, text: str) -> None:
    written(tmp_path)
    (tmp_path / "models" / "als" / "current.json").write_text(text)
    with pytest.raises(ArtefactError, match="not a pointer"):
        current(tmp_path, "als")


def test_an_arm_name_cannot_leave_its_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        current(tmp_path, "../als")


def test_what_a_killed_writer_left_goes_with_a_later_version_and_what_is_being_written_stays(tmp_path: Path) -> None:
    """25 writers that were killed left 61 MB, for ever."""
    left, going_on = (tmp_path / "models" / "als" / f".1.{name}.tmp" for name in ("killed", "writes"))
    for folder in (left, going_on):
        folder.mkdir(parents=True)
        (folder / "arrays.npz").write_bytes(b"half")
    os.utime(left, (0, 0))
    written(tmp_path)
    assert (left.exists(), going_on.exists()) == (False, True)
