"""Settings: from ``presslab.toml`` in the home folder and from ``PRESSLAB_*`` variables (these win)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from experiments.errors import ConfigError, nearest

__all__ = ["ELSEWHERE", "FILE", "HERE", "Settings", "database_named", "load_settings", "overlooked"]

FILE = "presslab.toml"
API_TOKENS = "api_tokens.json"  # of a home: who may call from another server
ELSEWHERE = "events.json"  # in a home whose events are in a database: which one, in words without the password
HERE = ("127.0.0.1", "localhost")  # how somebody at this machine calls it, or at the other end of ssh -L
TEST_VARIABLES = {"PRESSLAB_DATA", "PRESSLAB_CHROMIUM"}


class Settings(BaseSettings):
    """Everything that may differ between two installations.

    Parameters
    ----------
    home : folder of all state.
    profile : ``demo`` runs on a simulated clock and generous limits, on loopback only.
    host, port, workers, threads : of the site.
    console_port : of the console; None: that of the site, or the next one once the site has a public name (:attr:`console_at`).
    deadline_ms : an arm that takes longer is replaced by the next rung of the ladder.
    page_budget_ms : a page whose events are not durable by then is sent without recommendations.
    regime : privacy rules, see /en/privacy.
    pool_hours : articles older than this are not recommended (evergreens are).
    half_life_hours : in which a read loses half its heat; None: 1 from 2,000 reads an hour on, else 24 (`presslab arm half-life`).
    events_per_second : that ``/e`` takes of a reader in a web process, over four seconds: four times as many at once;
        tenfold in the demo. Below 13 no batch of 50 can pass.
    database_url : of the PostgreSQL database that holds the events (docs/postgresql.md); empty keeps them in the home folder.
    backup_folder : where the daily copies go, best on another disk; empty means ``<home>-backups`` beside the home folder.
    backup_copies : how many are kept, none for longer than 30 days.
    """

    model_config = SettingsConfigDict(env_prefix="PRESSLAB_", extra="forbid", frozen=True)

    home: Path = Path("instance")
    profile: Literal["demo", "production"] = "production"
    host: str = "127.0.0.1"
    port: int = Field(8750, ge=0, le=65_535)
    console_port: int | None = Field(None, ge=1, le=65_535)
    workers: int = Field(2, ge=1, le=64)
    threads: int = Field(16, ge=1, le=256)
    deadline_ms: int = Field(30, ge=1, le=1_000)
    page_budget_ms: int = Field(1_000, ge=10, le=10_000)
    regime: Literal["fr", "strict"] = "fr"
    pool_hours: float = Field(72.0, gt=0)
    half_life_hours: float | None = Field(None, gt=0, le=720)
    co_read_sessions: int = Field(10, ge=1)
    retention_days: int = Field(90, ge=1, le=760)
    events_per_second: int = Field(30, ge=1)
    database_url: SecretStr = SecretStr("")
    backup_folder: Path | None = None
    backup_copies: int = Field(7, ge=2, le=60)
    secure_cookies: bool = False
    trusted_hosts: tuple[str, ...] = HERE

    @property
    def source(self) -> Literal["simulated", "live"]:
        """Of the events that are counted; a report reads one, never a mixture: simulated readers in the demo, live ones elsewhere."""
        return "simulated" if self.profile == "demo" else "live"

    @property
    def console_at(self) -> int:
        """The port of the console: a site with a public name has it at one that no proxy passes on, since it has no accounts.

        Examples
        --------
        >>> Settings().console_at, Settings(trusted_hosts=("127.0.0.1", "news.example")).console_at, Settings(console_port=9000).console_at
        (8750, 8751, 9000)
        """
        return self.console_port or self.port + (not set(HERE).issuperset(self.trusted_hosts))

    @property
    def backups(self) -> Path:
        """The folder of the daily copies."""
        return self.backup_folder or self.home.with_name(f"{self.home.name}-backups")


def load_settings(home: Path | None = None, environment: Mapping[str, str] | None = None, *, moving: bool = False) -> Settings:
    """Read the settings; every unknown key or bad value is listed at once.

    Parameters
    ----------
    moving : the events of the home may be in a file although a database is named.

    Raises
    ------
    ConfigError
        with the file or variable, the value, and the nearest known key.
    """
    variables = os.environ if environment is None else environment
    folder = home or Path(variables.get("PRESSLAB_HOME", "instance"))
    path = folder / FILE
    values = _file(path)
    known = set(Settings.model_fields)
    faults = [f"{path}: unknown key '{key}'; {nearest(key, known)}" for key in values if key not in known]
    for name, value in variables.items():
        key = name.removeprefix("PRESSLAB_").lower()
        if not name.startswith("PRESSLAB_") or name in TEST_VARIABLES:
            continue
        if key not in known:
            faults.append(f"variable {name}: unknown; {nearest(key, known)}")
        else:
            values[key] = value.split(",") if key == "trusted_hosts" else value
    if faults:
        raise ConfigError("settings cannot be used:", faults=faults)
    values["home"] = folder
    settings = _checked(values, path)
    _check_store(settings.home, url=bool(settings.database_url.get_secret_value()), moving=moving)
    return settings


def overlooked(home: Path) -> str:
    """Return a sentence about settings in the working directory that are not read, since only those of the home are; else nothing."""
    here = Path(FILE).absolute()
    if not here.exists() or (home / FILE).exists():
        return ""
    return f"{here} is not read: settings belong into the home folder, {home / FILE}."


def database_named(home: Path) -> str:
    """Return the URL of the database that is to hold the events of a home, its password included; empty if none is."""
    return load_settings(home, moving=True).database_url.get_secret_value()


def _check_store(home: Path, *, url: bool, moving: bool) -> None:
    """Refuse a home whose events are not where the settings say: the half that is missing would be missed in silence."""
    if (home / ELSEWHERE).exists() and not url:
        raise ConfigError(
            f"{home}: the events of this home are in PostgreSQL, and no database is named.",
            f"Set PRESSLAB_DATABASE_URL; {home / ELSEWHERE} says which database it was.",
        )
    if url and not moving and not (home / ELSEWHERE).exists() and (home / "events.db").exists():
        raise ConfigError(
            f"{home}: PRESSLAB_DATABASE_URL names a database, but the events of this home are in {home / 'events.db'}.",
            "Stop the worker and run `presslab migrate` to move them there; or unset the variable.",
        )


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as TOML: {error}.") from error


def _checked(values: dict[str, Any], path: Path) -> Settings:
    try:
        settings = Settings(**values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"settings cannot be used ({path} or a PRESSLAB_ variable):", faults=faults) from error
    return settings.model_copy(update={"home": Path(settings.home).absolute()})
