"""``presslab arm ship``, ``step``, ``rollback``: from a checked arm to all its readers, and back."""

from __future__ import annotations

import getpass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from web.cli.main import Home, Json, arm

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from experiments.ladder import Ladder
    from experiments.lifecycle import Step

__all__ = ["back", "ship", "step"]

Reason = Annotated[str, typer.Option(help="Why, in one sentence; goes into the record.")]


@arm.command("ship")
def ship(
    name: str,
    *,
    experiment: Annotated[str, typer.Option(help="A drafted experiment that has the arm among its arms.")],
    ladder: Annotated[str, typer.Option(help="Per cent of the audience, rising; the planned share is the last step.")] = "1,5,25,full",
    reason: Reason = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Propose a checked arm: it is asked in shadow at once, and shown to readers when somebody else approves; exit 3 while a gate fails."""
    from experiments.ladder import propose
    from experiments.lifecycle import publish_plan
    from web.cli.output import print_json, tell

    folder, engine, _, now = _open(home)
    version = _checked(folder, name)
    found = propose(engine, experiment, name, shares=_shares(ladder), version=version, step=_step(reason, now))
    publish_plan(folder, engine, at=now)
    if as_json:
        print_json(_told(found))
        return
    tell(f"proposal {found.proposal}: '{name}'{f', version {version},' if version else ''} into experiment '{experiment}', "
         f"{' -> '.join(f'{share:.3g}' for share in (100 * s for s in found.shares))} % of its audience")  # fmt: skip
    tell("It is asked on real requests from now on and shown to nobody; a thousand without an error are needed, over two minutes.")
    tell(f"Next, by somebody else than {found.author}: presslab arm step {name} --approve {found.proposal} --reason '...'")


@arm.command("step")
def step(
    name: str,
    *,
    reason: Reason,
    number: Annotated[int | None, typer.Option("--approve", help="Number of the proposal; begins the ladder.")] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Approve a proposal of your own, where nobody else is there; goes into the record.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Begin the ladder, or take its next step when harm is excluded; the timetable does the latter by itself. Exit 3: not yet."""
    from experiments.errors import ArmError
    from experiments.ladder import approve, ladder_of
    from experiments.lifecycle import publish_plan
    from web.cli.output import print_json, tell
    from web.ladder import advance

    folder, engine, source, now = _open(home)
    found, doing = ladder_of(engine, name), _step(reason, now)
    if found.state == "shadow":
        if number != found.proposal:
            raise ArmError(f"'{name}' waits for approval of proposal {found.proposal}.", f"Say --approve {found.proposal}.")
        _shadow_is_enough(folder, found)
        found = approve(engine, found, doing, alone=alone)
        publish_plan(folder, engine, at=now)
    elif number is not None:
        raise ArmError(f"proposal {number} is not waiting: '{name}' is {found.state}.", "Leave --approve out to take the next step.")
    else:
        before, (found, looked) = found, advance(folder, engine, found, step=doing, source=source)
        if looked.stop:
            raise ArmError(f"'{name}' was stopped: {looked.stop}.", "No reader gets it any more. Plan the next test without the fault.")
        if found.share == before.share:
            raise ArmError(f"'{name}' stays where it is: {looked.missing or 'it has its full share.'}")
    if as_json:
        print_json(_told(found))
        return
    tell(f"'{name}' has {found.share:.3g} of the audience of '{found.experiment}', within a second; the other arms in proportion.")
    tell("It is stopped by itself when readers meet its failures or lose views; back: presslab arm rollback " + name + " --reason '...'")


@arm.command("rollback")
def back(
    name: str,
    *,
    reason: Reason,
    to: Annotated[str, typer.Option(help="A version of the model; without it the arm is taken from all readers.")] = "",
    home: Home = None,
) -> None:
    """Take an arm from all readers, or put an earlier version of its model in force; within a second. Exit 5: nothing to go back to."""
    from experiments.clock import system_clock
    from experiments.errors import NotFoundError
    from experiments.ladder import halt, ladders
    from experiments.lifecycle import publish_plan
    from experiments.serving.artefacts import rollback
    from web.cli.output import tell

    folder, engine, _, now = _open(home)
    live = [one for one in ladders(engine) if one.arm == name and one.state in ("live", "full")]
    if to or not live:
        try:
            pointer = rollback(folder, name, to or None, at_us=system_clock())
        except NotFoundError as error:
            raise NotFoundError(f"{error.what}", "No ladder shows the arm to readers either; see `presslab arm list`.") from None
        tell(f"{name} serves version {pointer.version} again.")
        return
    gone = halt(engine, live[0], _step(reason, now))
    publish_plan(folder, engine, at=now)
    tell(f"'{name}' had {live[0].share:.3g} of the audience of '{gone.experiment}'; no reader gets it any more, within a second.")


def _open(home: Path | None) -> tuple[Path, Engine, str, datetime]:
    from experiments.clock import moment
    from experiments.migrate import migrate
    from experiments.settings import load_settings
    from experiments.tables import control_engine
    from web.cli.plan import now_of

    settings = load_settings(home)
    migrate(settings.home)
    now_us, source = now_of(settings.home)
    return settings.home, control_engine(settings.home), source, moment(now_us)


def _step(reason: str, now: datetime) -> Step:
    from experiments.lifecycle import Step

    return Step(getpass.getuser(), now, reason)


def _shares(ladder: str) -> list[float]:
    from experiments.errors import ConfigError

    words = [word.strip() for word in ladder.split(",")]
    try:
        return [float(word) / 100 for word in words if word != "full"]
    except ValueError:
        raise ConfigError(f"--ladder {ladder}: per cent, separated by commas, are needed.", "Say 1,5,25,full.") from None


def _checked(home: Path, name: str) -> str:
    """Return the version of the arm that would be shown; raises while a gate fails or nothing is trained."""
    from experiments.errors import ArmError
    from experiments.serving.artefacts import current
    from experiments.serving.recommender import arm_class
    from web.standing import last_gates

    kind: Any = arm_class(name)
    gates = last_gates(home, name)
    if gates is None:
        raise ArmError(f"arm '{name}' has not been checked here.", f"Run `presslab arm check {name}`.")
    if not gates["passed"]:
        faults = [f"gate {g['number']}, {g['name']}: {g['reason'] or g['figure']}" for g in gates["gates"] if not g["passed"]]
        raise ArmError(
            f"arm '{name}' has not passed its gates (run {gates['run']}); mend it and run `presslab arm check {name}`:", faults=faults
        )
    pointer = current(home, name)
    if pointer is None and hasattr(kind, "load"):
        raise ArmError(f"no version of '{name}' is trained.", f"Run `presslab model train {name}`.")
    return pointer.version if pointer else ""


def _shadow_is_enough(home: Path, ladder: Ladder) -> None:
    from experiments.errors import ArmError
    from web.shadow import ENOUGH, LEAST_MINUTES, Asked, shadow_result

    found = shadow_result(home, Asked(ladder.experiment, ladder.arm, ladder.proposal))
    if found["errors"]:
        raise ArmError(
            f"'{ladder.arm}' failed on {found['errors']:,} of {found['calls']:,} requests in shadow, last with {found['last_error']}.",
            "Mend it, restart the site, check it and ship it again.",
        )  # fmt: skip
    if found["calls"] < ENOUGH or found["minutes"] < LEAST_MINUTES:
        raise ArmError(
            f"'{ladder.arm}' was asked {found['calls']:,} times in shadow in {found['minutes']:g} min; {ENOUGH:,} over {LEAST_MINUTES} min are needed.",
            "Wait for readers; a site that was running before the arm was written must be restarted to know it.",
        )  # fmt: skip


def _told(ladder: Ladder) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(ladder), "since": ladder.since.isoformat()}
