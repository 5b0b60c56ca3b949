"""What several tests need: a home folder, a newspaper, a site."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from experiments.events.store import upgrade_store
from experiments.serving.recommender import Article, Catalogue
from tests import postgres
from tests.opened import SITES

settings.register_profile("presslab", deadline=None)  # a slow machine is no fault
settings.load_profile("presslab")

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def _close_sites() -> Iterator[None]:
    """Close the sites that a test opened and left open; those of a whole file stay."""
    before = len(SITES)
    yield
    while len(SITES) > before:
        SITES.pop().close()


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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A real PostgreSQL server, one for all tests of this process."""
    with postgres.running() as server:
        yield server


@pytest.fixture
def in_postgres(postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home (``tmp_path``) whose events are in PostgreSQL, in a store of its own."""
    monkeypatch.setenv("PRESSLAB_DATABASE_URL", postgres_server.url(f"s{uuid4().hex}"))
    upgrade_store(tmp_path)
    return tmp_path


@pytest.fixture(params=["sqlite", "postgresql"])
def either_engine(request: pytest.FixtureRequest) -> str:
    """Run a test twice: with the events of ``tmp_path`` in SQLite, and in PostgreSQL."""
    if request.param == "postgresql":
        request.getfixturevalue("in_postgres")
    return str(request.param)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def either_engine_long(request: pytest.FixtureRequest) -> str:
    """The same, the second time among the long tests."""
    if request.param == "postgresql":
        request.getfixturevalue("in_postgres")
    return str(request.param)
