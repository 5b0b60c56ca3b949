"""The half-life follows the site: short where news is read at once, and never changed without a clear difference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from experiments.errors import DataError
from experiments.migrate import migrate
from experiments.settings import Settings
from recsys.comparison import paired
from recsys.evaluation import next_click_ranks
from recsys.half_life import CHOICES_H, main, propose_half_life
from recsys.importers.log import import_log
from recsys.importers.table import Layout
from recsys.next_click import Clicks, clicks
from web.signal_job import SignalJob

MAY = 1_777_593_600_000  # ms


def site(*, fashion_h: float, hours: int = 60, per_hour: int = 30, seed: int = 0) -> Clicks:
    """Sessions of two clicks; of 200 articles, those in fashion are read and the fashion changes every ``fashion_h`` hours."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, str, str, int]] = []
    for number in range(hours * per_hour):
        at = number / per_hour
        liked = np.random.default_rng(int(at // fashion_h)).permutation(200)[:15]
        for step, article in enumerate(rng.choice(liked, 2, replace=False)):
            rows.append((f"r{number % 400}", f"s{number}", f"a{article}", round((at + step / 1e3) * 3.6e9)))
    columns = list(zip(*rows, strict=True))
    return clicks(pa.table(dict(zip(("reader", "session", "article", "at"), columns, strict=True))))


def test_where_fashion_changes_quickly_a_short_half_life_is_proposed() -> None:
    found = propose_half_life(site(fashion_h=4.0), current=24.0)
    assert found.proposed <= 4.0
    assert found.low > 0
    assert found.hit_rates[found.proposed] == max(found.hit_rates.values())
    assert set(found.hit_rates) == set(CHOICES_H)


def test_without_a_clear_difference_the_current_one_stays() -> None:
    found = propose_half_life(site(fashion_h=1e9), current=24.0)
    assert found.low <= 0
    assert found.proposed == 24.0


def test_one_page_view_or_one_reader_proposes_nothing() -> None:
    log = site(fashion_h=4.0)
    alone = replace(log, reader=np.zeros_like(log.reader))
    assert propose_half_life(log, current=24.0).proposed != 24.0
    assert propose_half_life(alone, current=24.0).proposed == 24.0


def test_the_best_of_six_others_has_to_be_better_than_the_best_of_six_is_by_chance() -> None:
    """The range is that of one pair at 1 - 0.05 / 6: a gap that one pair alone would call clear is not."""
    found = propose_half_life(site(fashion_h=4.0), current=24.0)
    ranks, readers, _ = next_click_ranks(site(fashion_h=4.0), [f"heat_{found.best:g}", "heat_24"], span=(1, 60))
    one = paired("best", "24", hits=(ranks[f"heat_{found.best:g}"] < 10, ranks["heat_24"] < 10), readers=readers)
    assert one.difference == pytest.approx(found.hit_rates[found.best] - found.hit_rates[24.0])
    assert (found.high - found.low) / (one.high - one.low) == pytest.approx(2.638 / 1.960, rel=0.01)


def test_the_job_reads_the_sites_own_week_and_the_setting_takes_effect(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, lines = np.random.default_rng(1), ["reader_id,session,article_id,ts"]
    for number in range(1_800):
        liked = np.random.default_rng(number // 120).permutation(200)[:15]
        for step, chosen in enumerate(rng.choice(liked, 2, replace=False)):
            lines.append(f"r{number % 400},s{number},a{chosen},{MAY + round((number / 30 + step / 1e3) * 3.6e6)}")
    log, until = home.parent / "log.csv", MAY * 1_000 + round(60.1 * 3.6e9)
    log.write_text("\n".join(lines))
    migrate(home)
    import_log("table", log, home, layout=Layout(unit="ms"))
    SignalJob(Settings(home=home)).run(until)
    assert main(["--home", str(home), "--until", str(until)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["current"] == 24.0
    assert told["proposed"] <= 4.0
    assert f"set half_life_hours = {told['proposed']:g}" in told["says"]
    SignalJob(Settings(home=home, half_life_hours=told["proposed"])).run(until + 1)
    assert main(["--home", str(home), "--until", str(until)]) == 0
    assert json.loads(capsys.readouterr().out)["says"].startswith(f"{told['proposed']:g} h stays")


def test_a_site_without_readers_is_refused_with_its_reason(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    migrate(home)
    assert main(["--home", str(home), "--until", "1"]) == 3
    assert "readers have read nothing" in json.loads(capsys.readouterr().out)["reason"]


def test_a_log_without_a_second_click_says_so() -> None:
    lonely = clicks(pa.table({"reader": ["r"], "session": ["s"], "article": ["a"], "at": [0]}))
    with pytest.raises(DataError, match="nobody has read two articles in one session in the last seven days"):
        propose_half_life(lonely, current=1.0)
