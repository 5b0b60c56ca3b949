"""``presslab model reproduce``, ``drift run``, ``mlflow-ui``: commands that hand over to a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from web.cli.main import Home, Json, app, drift, model

__all__ = ["mlflow_ui", "reproduce", "run_drift"]


@model.command("reproduce")
def reproduce(
    name: str,
    *,
    version: Annotated[str, typer.Option(help="The one in force unless given.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Train a version again from the same reads and compare every bit; publishes nothing. Exit 4 when it comes out differently."""
    from experiments.settings import load_settings

    _hand_over(["recsys.reproduce", name, "--home", str(load_settings(home).home), "--version", version], as_json=as_json)


@drift.command("run")
def run_drift(
    *,
    until: Annotated[int, typer.Option(help="Reads up to this time, UTC microseconds; 0 is just after the last read.")] = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Compare what goes into the models with normal days, now; `presslab drift show` tells what came of it."""
    from experiments.settings import load_settings
    from web.imported import last_read_us

    folder = load_settings(home).home
    _hand_over(["recsys.drift", "--home", str(folder), "--until", str(until or last_read_us(folder) + 1)], as_json=as_json)


def _hand_over(command: Sequence[str], *, as_json: bool) -> None:
    ended = subprocess.run([sys.executable, "-m", *command], check=False, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1]) if ended.stdout.strip() else {}
    typer.echo(ended.stdout.rstrip() if as_json or not told else f"{told.get('says') or told.get('reason')}.".replace("..", "."))
    raise typer.Exit(ended.returncode)


@app.command("mlflow-ui")
def mlflow_ui(port: Annotated[int, typer.Option(help="On this machine only.", min=1, max=65_535)] = 5_000, home: Home = None) -> None:
    """Open MLflow's own pages on the versions of this home, on this machine only; ends with Ctrl-C."""
    from experiments.errors import NotFoundError
    from experiments.settings import load_settings

    folder = load_settings(home).home / "mlflow"
    database = folder / "mlflow.db"
    if not database.exists():
        raise NotFoundError(
            f"{database} is not there: nothing was brought into MLflow yet.", "Train a model, or run `presslab jobs run registry`."
        )
    os.execve(sys.executable, _ui(database, port), {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"})  # fmt: skip


def _ui(database: Path, port: int) -> list[str]:
    """The command line of MLflow's server, without its fifteen processes."""
    store = f"sqlite:///{database}"
    return [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        store,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
