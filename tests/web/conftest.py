"""One newspaper for all page tests, one application and site per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from experiments.serving.recommender import Catalogue
from tests.web.preview import PreviewDesk, PreviewSite, preview_app, read_newspaper
from tests.web.site_fixture import Stand


@pytest.fixture(scope="session")
def newspaper() -> tuple[Catalogue, PreviewDesk]:
    return read_newspaper()


@pytest.fixture
def pair(newspaper: tuple[Catalogue, PreviewDesk]) -> tuple[Flask, PreviewSite]:
    return preview_app(newspaper)


@pytest.fixture
def preview(pair: tuple[Flask, PreviewSite]) -> PreviewSite:
    return pair[1]


@pytest.fixture
def client(pair: tuple[Flask, PreviewSite]) -> Iterator[FlaskClient]:
    with pair[0].test_client() as client:
        yield client


@pytest.fixture
def stand(home: Path) -> Iterator[Stand]:
    made = Stand(home)
    yield made
    made.site.close()
