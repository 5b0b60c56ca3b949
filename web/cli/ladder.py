"""``presslab arm ship``, ``step``, ``rollback``, ``resume``: from a checked arm to all its readers, and back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from web.cli.main import Home, Json, account, arm

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from experiments.ladder import Ladder
    from experiments.lifecycle import Step
    from web.confirmed import Confirmed

__all__ = ["back", "back_to", "doing", "opened", "resume", "ship", "step"]

STOPPED = {
    "held": "The version before serves again. Mend the cause, then say `presslab arm resume`.",
    "stopped": "No reader gets it any more. Mend the cause, check it, plan the next test with it and ship it there.",
}

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
    from experiments.errors import NotFoundError, nearest
    from experiments.ladder import propose
    from experiments.lifecycle import experiments, publish_plan
    from web.cli.output import print_json, tell
    from web.cli.proposed import checked, code_of

    folder, engine, _, now = opened(home)
    version = checked(folder, name)
    known = [record.experiment.name for record in experiments(engine)]
    if experiment not in known:
        raise NotFoundError(
            f"no experiment is called '{experiment}'; {nearest(experiment, known)}",
            f"Draft one that has {name} among its arms: presslab experiment plan FILE",
        )
    found = propose(engine, experiment, name, shares=_shares(ladder), version=version, step=doing(reason, now), code=code_of(name))
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
    from web.cli.proposed import may_be_shown
    from web.ladder import advance

    folder, engine, source, now = opened(home)
    found, as_told = ladder_of(engine, name), doing(reason, now)
    if found.state == "shadow":
        if number != found.proposal:
            raise ArmError(f"'{name}' waits for approval of proposal {found.proposal}.", f"Say --approve {found.proposal}.")
        may_be_shown(folder, found)
        found = approve(engine, found, as_told, alone=alone)
    elif not found.shown:
        why = f": {found.why}" if found.state == "stopped" else ""
        raise ArmError(
            f"'{name}' in experiment '{found.experiment}' is {found.state}{why}.", "Plan the next test with it, and ship it there."
        )
    elif number is not None:
        raise ArmError(f"proposal {number} is not waiting: '{name}' is {found.state}.", "Leave --approve out to take the next step.")
    else:
        before, (found, looked) = found, advance(folder, engine, found, step=as_told, source=source)
        if looked.stop:
            raise ArmError(f"'{name}' is {found.state}: {looked.stop}.", STOPPED[found.state])
        if found.share == before.share:
            raise ArmError(f"'{name}' stays where it is: {looked.missing or 'it has its full share.'}")
    done = _arrived(folder, publish_plan(folder, engine, at=now))
    if as_json:
        print_json({**_told(found), "workers": done.to_dict()})
        return
    tell(
        f"'{name}' has {100 * found.share:.3g} % of the audience of '{found.experiment}', the other arms in proportion (entry {found.entry}): {done}."
    )
    tell(
        "It is stopped by itself: failures are looked at every 10 s, views every 5 min. Back: presslab arm rollback "
        + name
        + " --reason '...'"
    )


@arm.command("rollback")
def back(
    name: str,
    *,
    reason: Reason,
    to: Annotated[str, typer.Option(help="A version of the model; without it the arm is taken from all readers.")] = "",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take an arm from all readers, or put an earlier version of its model in force; within a second. Exit 5: nothing to go back to."""
    from experiments.errors import NotFoundError
    from experiments.ladder import take_back
    from experiments.lifecycle import publish_plan
    from web.cli.output import print_json, tell

    folder, engine, _, now = opened(home)
    taken = [] if to else take_back(engine, name, doing(reason, now))
    if not taken:
        try:
            back_to(folder, name, to, doing(reason, now), as_json=as_json)
        except NotFoundError as error:
            raise NotFoundError(
                f"{error.what}", "No test and no decision shows the arm to readers either; see `presslab arm list`."
            ) from None
        return
    done = _arrived(folder, publish_plan(folder, engine, at=now))
    if as_json:
        where = [{"experiment": was.experiment, "decided": was.decided, "from": was.share} for was, _ in taken]
        print_json({**_told(taken[-1][1]), "from": taken[-1][0].share, "taken": where, "workers": done.to_dict()})
        return
    tell(f"'{name}' had {' and '.join(_had(was) for was, _ in taken)}; no reader gets it any more: {done}.")
    if any(now.resumable for _, now in taken):
        tell(
            f"Readers outside of tests get what was decided before, or nothing. To give it back to them: presslab arm resume {name} --reason '...'"
        )


def _had(ladder: Ladder) -> str:
    if ladder.decided:
        return f"all readers outside of tests, as decided in '{ladder.experiment}'"
    return f"{100 * ladder.share:.3g} % of the audience of '{ladder.experiment}'"


def back_to(home: Path, name: str, to: str, step: Step, *, as_json: bool) -> None:
    """Put an earlier version in force, keep newer ones from following, and tell which and where."""
    from experiments.clock import to_us
    from experiments.errors import ArtefactError
    from experiments.lifecycle import note_about
    from experiments.serving.artefacts import current, rollback
    from experiments.tables import control_engine
    from web.cli.output import print_json, tell
    from web.confirmed import confirmed

    try:
        before = getattr(current(home, name), "version", "")
    except ArtefactError:
        before = ""  # what cannot be read is no reason to stay with it
    pointer = rollback(
        home, name, to or None, at_us=to_us(step.at), frozen=f"{step.actor} went back to it: {step.reason or 'no reason given'}"
    )
    note_about(control_engine(home), f"model {name}", "rollback", step, **{"from": before, "to": pointer.version})
    done = confirmed(home, lambda told: told.get("bundles", {}).get(name) == pointer.version)
    if as_json:
        print_json({"arm": name, "from": before, "to": pointer.version, "workers": done.to_dict()})
        return
    tell(f"{name} serves version {pointer.version} again{f', was {before}' if before else ''}: {done}.")
    tell(f"No newer version follows until you say so: presslab arm resume {name} --reason '...'")


@arm.command("resume")
def resume(name: str, *, reason: Reason, home: Home = None, as_json: Json = False) -> None:
    """Let an arm go on that was held, or taken back after its decision; newer versions of its model follow again. Exit 5: nothing holds it."""
    from experiments.errors import NotFoundError
    from experiments.ladder import decided_arms, running_arms
    from experiments.ladder import resume as go_on
    from experiments.lifecycle import note_about, publish_plan
    from experiments.serving.artefacts import stays, thaw
    from web.cli.output import print_json, tell

    folder, engine, _, now = opened(home)
    held = [one for one in (*running_arms(engine), *decided_arms(engine)) if one.arm == name and one.resumable]
    if not held and not stays(folder, name):
        raise NotFoundError(
            f"nothing holds '{name}'.", "See `presslab arm list`; an arm that was stopped in a test comes back in the next one only."
        )
    pointer, as_told = thaw(folder, name), doing(reason, now)
    if held:
        found = go_on(engine, held[0], as_told)
        publish_plan(folder, engine, at=now)
    else:
        note_about(engine, f"model {name}", "resume", as_told)
    version = pointer.version if pointer else ""
    if as_json:
        print_json({"arm": name, "version": version, "ladder": _told(found) if held else None})
        return
    if held:
        tell(
            f"'{name}' goes on at {100 * found.share:.3g} % of the audience of '{found.experiment}'"
            f"{f', with version {version}' if version else ''}; guardrails count anew."
        )
    tell("Newer versions follow as they are trained.")


def _arrived(home: Path, plan: str) -> Confirmed:
    from web.confirmed import confirmed

    return confirmed(home, lambda told: told.get("plan") == plan)


def opened(home: Path | None) -> tuple[Path, Engine, str, datetime]:
    """Return folder, control database, source of events and time of an installation."""
    from experiments.clock import moment
    from experiments.migrate import migrate
    from experiments.settings import load_settings
    from experiments.tables import control_engine
    from web.cli.plan import now_of

    settings = load_settings(home)
    migrate(settings.home)
    now_us, source = now_of(settings.home)
    return settings.home, control_engine(settings.home), source, moment(now_us)


def doing(reason: str, now: datetime) -> Step:
    """Return who does something now, and why."""
    from experiments.lifecycle import Step

    return Step(account(), now, reason)


def _shares(ladder: str) -> list[float]:
    from experiments.errors import ConfigError

    words = [word.strip() for word in ladder.split(",")]
    try:
        return [float(word) / 100 for word in words if word != "full"]
    except ValueError:
        raise ConfigError(f"--ladder {ladder}: per cent, separated by commas, are needed.", "Say 1,5,25,full.") from None


def _told(ladder: Ladder) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(ladder), "since": ladder.since.isoformat(), "counted_from": ladder.counted_from.isoformat()}
