"""What only PostgreSQL can do: be away, be killed, be shared by several machines, be the wrong database."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from experiments.errors import BusyError, ConfigError, DataError, StoreDownError
from experiments.events.backup import back_up
from experiments.events.erase import erase_reader
from experiments.events.loader import Loader
from experiments.events.outbox import Outbox
from experiments.events.restoring import drill, restore
from experiments.events.retention import expire
from experiments.events.sealing import seal
from experiments.events.store import balance, open_store, read_store, store_path, upgrade_store
from experiments.files import read_json
from experiments.migrate import migrate
from experiments.settings import load_settings
from tests import postgres
from tests.events.story import DAY, SMALL, START, Story, send, view


def stored(home: Path) -> tuple[int, int, int]:
    """Rows, different ids, and the last number."""
    with closing(read_store(store_path(home))) as store:
        rows, ids = store.execute("SELECT count(*), count(DISTINCT id) FROM event").fetchone()
        return rows, ids, store.last_seq()


@pytest.fixture
def two_machines(in_postgres: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two homes of one site, one store."""
    other = tmp_path_factory.mktemp("other")
    shutil.copy(in_postgres / "erase.key", other / "erase.key")
    upgrade_store(other)
    return in_postgres, other


# The server is killed


@pytest.fixture
def fragile(postgres_server: postgres.Server, in_postgres: Path) -> Iterator[postgres.Server]:
    """The server, which a test may kill: it runs again afterwards."""
    yield postgres_server
    if postgres_server.process.poll() is not None:
        postgres_server.start()


def test_while_the_server_is_dead_outboxes_take_events_and_the_loader_catches_up_when_it_is_back(
    fragile: postgres.Server, in_postgres: Path
) -> None:
    outbox = Outbox(in_postgres / "outbox", clock=lambda: START, limits=SMALL)
    with Loader(in_postgres, clock=lambda: START) as loader:
        outbox.append([view(n) for n in range(100)])
        loader.load()
        fragile.kill()
        outbox.append([view(n) for n in range(50, 150)])
        for _ in range(2):
            with pytest.raises(StoreDownError, match=r"P100 the event store .PostgreSQL, database 'postgres'"):
                loader.load()
        with pytest.raises(StoreDownError):
            balance(in_postgres)
        fragile.start()
        outbox.append([view(150)])
        outbox.close()
        loaded = loader.drain()
    assert (loaded.stored, loaded.duplicate) == (51, 50)
    assert stored(in_postgres) == (151, 151, 151)
    assert [(row.received, row.stored, row.duplicate, row.pending, row.exact) for row in balance(in_postgres)] == [(201, 151, 50, 0, True)]


def delete_while_it_is_killed(loader: Loader, server: postgres.Server) -> None:
    with loader.transaction() as store:
        store.execute("DELETE FROM event WHERE seq = 1")
        server.kill()
        server.start()
        with suppress(StoreDownError):
            store.execute("DELETE FROM event WHERE seq = 2")  # hears of it
        store.execute("DELETE FROM event WHERE seq = 2")  # must not go to a new connection, outside of any transaction


def test_a_server_killed_inside_a_transaction_leaves_nothing_of_it_and_nothing_goes_to_a_new_connection(
    fragile: postgres.Server, in_postgres: Path
) -> None:
    send(in_postgres, [view(n) for n in range(3)])
    with Loader(in_postgres, clock=lambda: START) as loader:
        with pytest.raises(StoreDownError):
            delete_while_it_is_killed(loader, fragile)
        assert stored(in_postgres) == (3, 3, 3)
        with loader.transaction() as store:
            store.execute("DELETE FROM event WHERE seq = 3")
    assert stored(in_postgres)[0] == 2


# Several machines


def test_two_machines_load_into_one_store_exactly_once_and_both_see_one_exact_balance(two_machines: tuple[Path, Path]) -> None:
    one, other = two_machines
    outbox = Outbox(other / "outbox", clock=lambda: START, limits=SMALL)
    with Loader(one, clock=lambda: START) as here, Loader(other, clock=lambda: START) as there:
        outbox.append([view(n) for n in range(60)])
        assert there.load(most=40).stored == 40
        assert [(row.received, row.stored, row.pending, row.exact) for row in balance(one)] == [(60, 40, 20, True)]
        here.load()  # retires what is done here, not what the other machine has open
        there.load()
        outbox.close()
        there.drain()
        mine = Outbox(one / "outbox", clock=lambda: START, limits=SMALL)
        mine.append([view(n) for n in range(50, 70)])
        mine.close()
        loaded = here.drain()
    assert (loaded.stored, loaded.duplicate) == (10, 10)
    assert stored(one) == (70, 70, 70)
    assert balance(one) == balance(other)
    assert [(row.received, row.stored, row.duplicate, row.exact) for row in balance(one)] == [(80, 70, 10, True)]


def test_numbers_follow_commits_so_that_no_reader_passes_over_an_event(
    two_machines: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two_machines
    monkeypatch.setattr("experiments.events.postgres_store.WRITER", "SET lock_timeout = '50ms'")
    with Loader(one, clock=lambda: START) as here, Loader(other, clock=lambda: START) as there:
        with here.transaction(), pytest.raises(StoreDownError, match="lock timeout"), there.transaction():
            pass
        with there.transaction() as store:
            store.execute("SELECT 1")


def test_one_machine_seals_and_deletes_days_the_others_leave_it_to_it(two_machines: tuple[Path, Path]) -> None:
    one, other = two_machines
    story = Story()
    story.page("anna", 0)
    send(one, story.events)
    with Loader(one, clock=lambda: START) as here, Loader(other, clock=lambda: START) as there:
        assert "1 event" in seal(one, until_us=START + 3 * DAY, loader=here)
        assert "another machine" in seal(other, until_us=START + 3 * DAY, loader=there)
        assert "another machine" in expire(other, until_us=START + 99 * DAY, days=90, loader=there)
        with pytest.raises(BusyError, match="another machine"):
            erase_reader(other, "anna", until_us=START, loader=there)
        assert erase_reader(one, "anna", until_us=START, loader=here).rows == 1
        sent = Outbox(other / "outbox", clock=lambda: START, limits=SMALL)
        sent.append([view(1, "anna"), view(2, "ben")])
        sent.close()
        loaded = there.drain()  # it learns who was erased, though it was there before
    assert (loaded.stored, loaded.erased) == (1, 1)


def test_another_machine_takes_over_sealing_only_with_the_files(two_machines: tuple[Path, Path]) -> None:
    one, other = two_machines
    story = Story()
    for day in range(3):
        story.page("anna", day * 1440)
    send(one, story.events)
    with Loader(one, clock=lambda: START) as here:
        seal(one, until_us=START + 2 * DAY, loader=here)
    with Loader(other, clock=lambda: START) as there:
        with pytest.raises(DataError, match="cannot be read"):
            seal(other, until_us=START + 3 * DAY, loader=there)
        shutil.copytree(one / "lake", other / "lake")
        assert "2026-01-02 (live): 1 event" in seal(other, until_us=START + 3 * DAY, loader=there)


def test_a_machine_with_another_erase_key_is_refused_and_told_to_copy_it(in_postgres: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ConfigError, match=r"first one's erase\.key"):
        upgrade_store(other)
    assert not (other / "events.json").exists()


# The wrong database, or none


def at_once(*_: object) -> None:
    raise InterruptedError


def test_a_home_is_bound_to_its_database(in_postgres: Path, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    send(in_postgres, [view(1)])
    monkeypatch.setenv("PRESSLAB_DATABASE_URL", postgres_server.url(f"s{uuid4().hex}"))
    with pytest.raises(DataError, match="does not hold the events of this home"):
        read_store(store_path(in_postgres))
    monkeypatch.delenv("PRESSLAB_DATABASE_URL")
    for ask in (load_settings, balance):
        with pytest.raises(ConfigError, match="no database is named"):
            ask(in_postgres)


def test_events_in_a_file_and_a_database_that_is_named_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(tmp_path, [view(1)])
    monkeypatch.setenv("PRESSLAB_DATABASE_URL", "postgresql://presslab:secret@nowhere.invalid/presslab")
    with pytest.raises(ConfigError, match=r"the events of this home are in .*events\.db"):
        load_settings(tmp_path)


def test_migrate_moves_the_events_of_a_file_into_the_database_and_the_loader_goes_on(
    tmp_path: Path, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(n) for n in range(30)])
    with Loader(tmp_path, clock=lambda: START) as loader:
        loader.load(most=20)
        monkeypatch.setenv("PRESSLAB_DATABASE_URL", postgres_server.url(f"s{uuid4().hex}"))
        with pytest.raises(BusyError, match="Stop the worker"):
            migrate(tmp_path)
    before = balance(tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr("pathlib.Path.rename", at_once)
        with pytest.raises(InterruptedError):
            migrate(tmp_path)  # killed after the database holds everything
    assert balance(tmp_path) == before
    migrate(tmp_path)
    assert balance(tmp_path) == before
    assert list(tmp_path.glob("events.db*")) == []
    assert stored(tmp_path) == (20, 20, 20)
    outbox.append([view(n) for n in range(25, 40)])
    outbox.close()
    with Loader(tmp_path, clock=lambda: START) as loader:
        loaded = loader.drain()
    assert (loaded.stored, loaded.duplicate) == (20, 5)
    assert stored(tmp_path) == (40, 40, 40)
    assert [(row.received, row.stored, row.duplicate, row.exact) for row in balance(tmp_path)] == [(45, 40, 5, True)]


def test_events_never_move_into_a_database_that_holds_others(
    in_postgres: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copy(in_postgres / "erase.key", other / "erase.key")
    send(other, [view(1)])
    with pytest.raises(ConfigError, match="another home"):
        migrate(other)
    assert (other / "events.db").exists()


def test_a_home_that_was_not_migrated_into_the_database_gets_no_file_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(tmp_path)
    monkeypatch.setenv("PRESSLAB_DATABASE_URL", "postgresql://presslab:secret@nowhere.invalid/presslab")
    with pytest.raises(ConfigError, match="presslab migrate"):
        Loader(tmp_path, clock=lambda: START)
    assert not (tmp_path / "events.db").exists()


@pytest.mark.parametrize("url", ["postgresql://presslab:s3cret@127.0.0.1:1/presslab", "user=presslab password s3cret"])
def test_no_message_and_no_file_holds_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("PRESSLAB_DATABASE_URL", url)
    with pytest.raises((StoreDownError, ConfigError)) as caught:
        upgrade_store(tmp_path)
    assert "s3cret" not in f"{caught.value} {load_settings(tmp_path)!r}"


def test_the_home_says_where_its_events_are(in_postgres: Path) -> None:
    known = read_json(in_postgres / "events.json")
    assert known is not None
    assert (known["engine"], known["dbname"], known["user"]) == ("postgresql", "postgres", "presslab")
    assert os.stat(in_postgres / "erase.key").st_mode & 0o777 == 0o600


def test_a_backup_holds_what_other_machines_loaded_and_balances_by_itself(
    two_machines: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    one, other = two_machines
    copies = tmp_path_factory.mktemp("copies")
    send(one, [view(n) for n in range(7)])
    outbox = Outbox(other / "outbox", clock=lambda: START, limits=SMALL)
    outbox.append([view(n) for n in range(10, 30)])
    with Loader(other, clock=lambda: START) as there:
        there.load(most=15)
        migrate(one)
        made = back_up(one, copies, at_us=START)
    outbox.close()
    assert drill(made.path, at_us=START).last_seq == 22
    restore(made.path, copies / "home", at_us=START)
    assert [(row.received, row.stored, row.pending, row.exact) for row in balance(copies / "home")] == [(22, 22, 0, True)]
    assert send(copies / "home", [view(5), view(40)]).duplicate == 1
    assert stored(copies / "home") == (23, 23, 23)


def test_a_reader_that_stays_is_cut_as_one_of_a_file_is(in_postgres: Path) -> None:
    with closing(read_store(store_path(in_postgres), longest_s=0.05)) as store:
        store.snapshot()
        with pytest.raises(StoreDownError, match="statement timeout"):
            store.execute("SELECT pg_sleep(9)")


# What the server keeps


def test_a_durable_commit_is_asked_for_whatever_the_server_is_set_to(
    in_postgres: Path, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = os.environ["PRESSLAB_DATABASE_URL"]
    monkeypatch.setenv("PRESSLAB_DATABASE_URL", f"{url}%20-csynchronous_commit%3Doff")
    with closing(open_store(store_path(in_postgres))) as store:
        assert store.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_an_erased_reader_is_in_no_table_file_of_the_server(in_postgres: Path, postgres_server: postgres.Server) -> None:
    reader = f"reader-{uuid4().hex}"  # other tests use the same server
    send(in_postgres, [view(n, reader if n % 3 else "other", body={"page_type": "front", "x": "x" * n}) for n in range(500)])

    def held() -> bool:
        with closing(open_store(store_path(in_postgres))) as store:
            store.execute("CHECKPOINT")
        return any(reader.encode() in path.read_bytes() for path in (postgres_server.data / "base").rglob("*") if path.is_file())

    assert held()
    erased = erase_reader(in_postgres, reader, until_us=START)
    assert (erased.rows, erased.wiped) == (333, True)
    assert not held()
    assert stored(in_postgres)[0] == 167


def test_texts_postgresql_itself_would_refuse_are_read_as_sqlite_reads_them(in_postgres: Path, tmp_path: Path) -> None:
    from experiments.events import lake

    odd = ["nul \0 inside", "half of a pair \ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace"), "'; --", "%s ? :day"]
    events = [view(n, body={"page_type": "article", "article": text, "prefetch": 0}) for n, text in enumerate(odd)]
    sqlite = tmp_path / "sqlite"
    send(in_postgres, events)
    send(sqlite, events)
    assert lake.reads(in_postgres, until_us=START + DAY).equals(lake.reads(sqlite, until_us=START + DAY))
    assert len(lake.reads(in_postgres, until_us=START + DAY)) == 4


# The tests themselves


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_a_server_these_tests_say_what_to_install_and_fail_where_they_must_run(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr(postgres, "programs", lambda: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install postgresql"), postgres.running():
        pass
