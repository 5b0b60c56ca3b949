"""Browsers whose clocks are wrong by years, or that send what is no time at all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.events import lake
from experiments.events.store import balance
from experiments.metric import Measure, Metric
from tests.web.site_fixture import PHONE, Stand

TOKEN = re.compile(r'data-token="([^"]+)"')
YEAR_MS = 365 * 86_400_000
VISIBLE = Measure(sum="dwell.active_ms")
READING = Metric("reading", "visible time", VISIBLE, Measure(count="reader"))
CLOCKS = ["0", "-1", "NaN", "Infinity", "1e400", str(2**53), str(2**63), str(-(2**63)), "1.5", '"noon"', "null", "[]", "true"]


@pytest.fixture
def stand(home: Path) -> Iterator[Stand]:
    made = Stand(home)
    yield made
    made.site.close()


def test_d11_no_clock_of_a_browser_changes_a_number_or_fails_a_page(stand: Stand) -> None:
    now = stand.clock() // 1_000
    for clock in [str(now), str(now + 10 * YEAR_MS), str(now - 10 * YEAR_MS), *CLOCKS]:
        client = stand.reader_in("front")
        token = TOKEN.findall(client.get(f"/en/article/{stand.article}", headers=PHONE).text)[0]
        for times in ("", f', "client_at": {clock}', f', "sent_at": {clock}', f', "client_at": {clock}, "sent_at": {now}'):
            body = f'{{"token": {json.dumps(token)}, "active_ms": 5000, "depth": 40{times}}}'
            answer = client.post("/e", data=body, headers={**PHONE, "Content-Type": "application/json"})
            assert answer.status_code in (202, 422), (clock, times)
            assert times or answer.status_code == 202
    stand.events()
    stand.advance(3 * 86_400)
    rows = lake.reader_rows(
        stand.home, stand.plan, [READING], until_us=stand.clock(), source="live", session_of_exposure=True
    ).table.to_pylist()
    assert [row[VISIBLE.key] for row in rows] == [5_000] * (len(CLOCKS) + 3)
    assert all(row.exact for row in balance(stand.home))
