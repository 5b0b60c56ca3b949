"""A web process leaves what it has loaded alone, and what requests leave behind does not pile up."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.web.site_fixture import Stand
from web.serve import keep_what_is_loaded


@pytest.fixture
def settled(stand: Stand) -> Iterator[Stand]:
    before = gc.get_threshold()
    keep_what_is_loaded()
    yield stand
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_requests_leave_behind_does_not_pile_up(settled: Stand) -> None:
    client = settled.client()
    for _ in range(600):  # each leaves eight objects of the search for its route, and some of the client
        client.get("/-/live")
    assert len(gc.get_objects(generation=0)) < 2_500


def test_what_was_loaded_is_never_looked_through_again(settled: Stand) -> None:
    assert gc.get_freeze_count() > 100_000
    assert not any(held is settled.site.catalogue for held in gc.get_objects())
