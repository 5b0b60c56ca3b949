"""A small site whose readers have tastes: every read is drawn from a seed, no file is needed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from experiments.content import add_articles
from experiments.events import lake
from experiments.serving.recommender import Article, Catalogue
from experiments.serving.signals import HOUR

SECTIONS = ("city", "sport", "science", "food", "culture", "business")
START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def articles(n: int = 170, days: float = 21.0) -> list[Article]:
    at = START + np.arange(n) * days * 24 * HOUR / n
    return [
        Article(f"a{i:04d}", f"Title {i}", "", "", SECTIONS[i * 7 % 6], "x", datetime.fromtimestamp(float(t), UTC))
        for i, t in enumerate(at)
    ]


def read_table(
    catalogue: Catalogue, *, readers: int = 1_200, sessions: int = 4_400, days: float = 21.0, taste: float = 2.0, seed: int = 0
) -> pa.Table:
    """Sessions of two or three reads; a reader prefers one section by a factor ``exp(taste)`` and new articles."""
    rng = np.random.default_rng(seed)
    likes = rng.integers(0, len(catalogue.sections), readers)
    strength = taste * rng.random(readers)
    rows: list[tuple[str, str, str, int]] = []
    for number in range(sessions):
        reader = int(rng.integers(0, readers))
        at = START + 24 * HOUR + rng.random() * (days - 1) * 24 * HOUR
        for _ in range(int(rng.integers(1, 5))):
            age_h = (at - catalogue.published) / HOUR
            weight = np.where(age_h >= 0, np.exp(-np.maximum(age_h, 0) / 48 + strength[reader] * (catalogue.section == likes[reader])), 0.0)
            article = int(rng.choice(len(catalogue), p=weight / weight.sum()))
            rows.append((f"r{reader}", f"s{number}", catalogue.ids[article], round(at * 1e6)))
            at += 30 + rng.random() * 300
    columns = list(zip(*sorted(rows, key=lambda row: row[3]), strict=True))
    device = [("phone", "desktop")[int(reader[1:]) % 2] for reader in columns[0]]
    referrer = [("external", "direct", "internal")[int(session[1:]) % 3] for session in columns[1]]
    names = ("reader", "session", "article", "at", "device", "referrer")
    return pa.table(dict(zip(names, (*columns[:3], np.array(columns[3], np.int64), device, referrer), strict=True)))


def until_us(days: float = 21.0) -> int:
    return round((START + days * 24 * HOUR) * 1e6)


def build(home: Path, *, readers: int = 1_200, sessions: int = 4_400, taste: float = 2.0) -> Path:
    """Write the site into ``home`` as an imported log."""
    everything = articles()
    add_articles(home, everything)
    lake.add_import(home, read_table(Catalogue(everything), readers=readers, sessions=sessions, taste=taste), name="small", sha256="0" * 64)
    return home
