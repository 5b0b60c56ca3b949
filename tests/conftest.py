"""What several tests need: a home folder, a newspaper, a site."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from experiments.serving.recommender import Article, Catalogue

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    return tmp_path / "home"


def article(number: int, **changes: object) -> Article:
    """Article ``aNNN``, published ``number`` hours before NOW, in one of four sections."""
    values: dict[str, object] = {
        "id": f"a{number:03d}", "title": f"Title {number}", "dek": "", "body": "Body.", "section": f"s{number % 4}", "author": "x",
        "published_at": NOW - timedelta(hours=number), **changes,
    }  # fmt: skip
    return Article(**values)  # type: ignore[arg-type]


@pytest.fixture
def catalogue() -> Catalogue:
    """Forty articles, one an hour."""
    return Catalogue([article(i) for i in range(40)])
