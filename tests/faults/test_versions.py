"""Going back to another version of a model while readers read: every process follows, and no request fails."""

from __future__ import annotations

from pathlib import Path

from tests.faults.versions import changed_under_load


def test_every_process_serves_the_version_that_was_gone_back_to_and_no_request_fails(home: Path) -> None:
    changes, load = changed_under_load(home, 3)
    assert [(one.confirmed.confirmed, one.confirmed.of, one.late) for one in changes] == [(2, 2, 0)] * 3
    assert load.failed == 0
    assert min(load.served.values()) > 0
