"""What the documentation says is so."""

from __future__ import annotations

import importlib
import re
import tomllib
from contextlib import closing
from pathlib import Path

import experiments.events.ids
import experiments.events.outbox
from analysis.own.data import Analysis
from analysis.report import Report
from experiments.errors import PresslabError
from experiments.events.store import read_store, store_path
from experiments.experiment import Experiment
from experiments.settings import Settings
from recsys.importers.table import HOW, ROLES, read_layout
from web.cli import commands
from web.cli.main import app

ROOT = Path(__file__).parents[1]


def kinds(error: type[PresslabError]) -> set[type[PresslabError]]:
    return {error} | {found for each in error.__subclasses__() for found in kinds(each)}


def test_every_error_code_is_documented_with_its_exit_status() -> None:
    assert experiments.events.ids.TokenError in kinds(PresslabError)
    rows = dict(re.findall(r"^\| (P\d{3}) \| (\d+) \|", (ROOT / "docs" / "errors.md").read_text(), re.M))
    assert {error.code: str(error.exit_status) for error in kinds(PresslabError)} == rows


def test_the_plan_in_the_documentation_is_a_valid_plan() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "plan.md").read_text(), re.S)
    assert Experiment.from_dict(tomllib.loads(block)).goal == "views_per_session"


def test_the_changelogs_newest_version_is_the_packages() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
    assert newest == version


def test_every_file_the_readme_points_to_exists() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text())
    missing = [t for t in targets if "://" not in t and not (ROOT / t).exists()]
    assert not missing


def test_what_the_page_on_postgresql_looks_at_exists(in_postgres: Path) -> None:
    queries = re.findall(r"`(SELECT [^`]+)`", (ROOT / "docs" / "postgresql.md").read_text())
    with closing(read_store(store_path(in_postgres))) as store:
        assert len([store.execute(query).fetchall() for query in queries]) == 3


def test_every_command_the_readme_names_exists() -> None:
    commands.install()
    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback} | {g.name for g in app.registered_groups}
    named = set(re.findall(r"`presslab ([a-z]+)", (ROOT / "README.md").read_text()))
    assert named <= known, named - known


def test_decisions_are_numbered_in_order_and_short() -> None:
    blocks = re.split(r"^## ", (ROOT / "DECISIONS.md").read_text(), flags=re.M)[1:]
    assert [int(re.match(r"D(\d+) ", block)[1]) for block in blocks] == list(range(1, len(blocks) + 1))  # type: ignore[index]
    assert all(len(block.strip().splitlines()) <= 20 for block in blocks)


def test_the_page_on_running_names_settings_and_a_port_that_exist() -> None:
    page, known = (ROOT / "docs" / "running.md").read_text(), Settings.model_fields
    assert f"http://127.0.0.1:{known['port'].default};" in page
    assert f"({known['workers'].default} × {known['threads'].default} by default)" in page
    assert f"`retention_days` ({known['retention_days'].default} by default" in page
    assert {name for name in re.findall(r"`([a-z]+_[a-z_]+)[ `=]", page) if not name.startswith(("proxy_", "request_", "reverse_"))} <= set(
        known
    )


def test_the_page_on_running_lists_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "running.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (`.+?`|none) \|", page, re.M))
    written = tomllib.loads("\n".join(f"{key} = {value.strip('`')}" for key, value in rows.items() if value != "none"))
    assert Settings(**written).model_dump() == {name: field.default for name, field in Settings.model_fields.items()}
    assert rows.keys() == Settings.model_fields.keys()


def test_the_page_on_importing_names_every_column_and_a_mapping_that_can_be_read(tmp_path: Path) -> None:
    page = (ROOT / HOW).read_text()
    assert tuple(re.findall(r"^\| `(\w+)` \|", page, re.M)) == ROLES
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    (tmp_path / "map.toml").write_text(block)
    assert read_layout(tmp_path / "map.toml").columns == {"reader_id": "user", "article_id": "page", "ts": "when"}


def test_what_the_page_on_analysing_does_with_results_can_be_done() -> None:
    page = (ROOT / "docs" / "analyse.md").read_text()
    for name, kind in (("found", Analysis), ("report", Report)):
        named = set(re.findall(rf"^[^#\n]*?\b{name}\.(\w+)", page, re.M)) | set(re.findall(rf", {name}\.(\w+)", page))
        assert len(named) > 3
        assert {each for each in named if not hasattr(kind, each)} == set()
    for module, names in re.findall(r"^from ([\w.]+) import ([\w, ]+)$", page, re.M):
        assert [each for each in names.split(", ") if not hasattr(importlib.import_module(module), each)] == []
