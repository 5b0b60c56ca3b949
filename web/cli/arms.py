"""``presslab arm list``, ``card``, ``new``, ``check``, ``half-life``: from an idea to an arm that may meet readers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from web.cli.main import Home, Json, arm

if TYPE_CHECKING:
    from web.stored import Stored

__all__ = ["arms", "card", "check", "half_life", "new"]


class KindOption(StrEnum):
    """The two kinds somebody may write; the status quo is there already."""

    heuristic = "heuristic"
    model = "model"


@arm.command("list")
def arms(home: Home = None, as_json: Json = False) -> None:
    """Every arm this installation knows, what serves and how old it is, and the modules that could not be loaded."""
    from experiments.serving.recommender import arm_class, broken_arms
    from web.arm_health import arm_health
    from web.cli.output import print_json, print_table
    from web.formatting import duration
    from web.standing import standing

    stored = _stored(home)
    found, asked = standing(stored)["arms"], arm_health(stored.home, until_us=stored.clock())
    kept = ("kind", "audience", "owner", "version", "age_s", "stale", "ladder")
    rows = [
        {
            "name": row["arm"],
            **{key: row[key] for key in kept},
            "day": asked.get(row["arm"]),
            "says": next(iter((arm_class(row["arm"]).__doc__ or "").strip().splitlines()), ""),
        }
        for row in found
    ]
    broken = broken_arms()
    if as_json:
        print_json({"arms": rows, "broken": broken})
        return
    told = [
        (
            *map(str, (r["name"], r["kind"], r["audience"], r["owner"] or "–", r["version"] or "–")),
            duration(r["age_s"], missing="–"),
            _climbed(r["ladder"]),
            *((f"{r['day']['calls']:,}", f"{r['day']['own']:.1%}", f"{r['day']['p99_ms']:.3g} ms") if r["day"] else ("–",) * 3),
        )
        for r in rows
    ]
    print_table("Arms", ("name", "kind", "audience", "owner", "version", "age", "ladder", "slates ", "own ", "p99 "), told)
    for module, reason in broken.items():
        print_table("Broken", ("module", "reason"), [(module, reason)])


def _climbed(ladder: dict[str, Any] | None) -> str:
    if ladder is None:
        return "–"
    from web.formatting import share

    return f"{ladder['state']} {share(ladder['share'])}" if ladder["share"] else str(ladder["state"])


def _stored(home: Path | None) -> Stored:
    from experiments.clock import clock_of
    from experiments.settings import load_settings
    from web.stored import Stored

    settings = load_settings(home)
    return Stored(settings, clock_of(settings.home, settings.profile))


@arm.command("card")
def card(name: str, home: Home = None, as_json: Json = False) -> None:
    """What people must know about an arm before readers see it, of the version that serves; exit 3 while a field is empty."""
    from recsys.card import unfilled
    from web.cli.output import print_json, print_table, tell
    from web.standing import card_of

    told = card_of(_stored(home), name)
    missing = unfilled(told["card"])
    if as_json:
        print_json({**told, "unfilled": missing})
    else:
        version = (
            f"version {told['version']}, trained on reads up to {told['trained_until']}" if told["version"] else "no version is published"
        )
        print_table(f"{name}, {told['kind']}" + (f", {version}" if told["kind"] == "model" else ""), ("field", "says"), [(k, v or "STILL EMPTY") for k, v in told["card"].items()])  # fmt: skip
        gates = told["gates"]
        if gates:
            words = {True: "passed", False: "FAILED", None: "not yet"}
            tell(f"Gates, run {gates['run']}: " + ", ".join(f"{g['number']} {g['name']} {words[g['passed']]}" for g in gates["gates"]))
        if told["reason"]:
            tell(f"The version in force cannot be read: {told['reason']}")
        if missing:
            tell(f"Fill in the attribute `card` of the class; results by group of readers come from `presslab arm check {name}`.")
    if missing:
        raise typer.Exit(3)


@arm.command("new")
def new(
    name: str,
    *,
    kind: Annotated[KindOption, typer.Option(help="A rule, or something trained.")] = KindOption.heuristic,
    into: Annotated[Path | None, typer.Option(help="Folder for a small package of its own; this checkout by default.")] = None,
) -> None:
    """Write the file of a new arm; it runs and keeps the contract at once."""
    from recsys.new_arm import write_arm
    from web.cli.output import tell

    path = write_arm(name, kind.value, into)
    tell(str(path))
    tell("To fill in: rank, the sentences on top, the card" + (", Trainer.fit and load." if kind is KindOption.model else "."))
    if into is not None:
        tell(f"Install it: pip install --no-deps -e {into}")
    tell(f"Next: presslab arm check {name}")


@arm.command("check")
def check(
    name: str,
    *,
    until: Annotated[int, typer.Option(help="Data up to this time, UTC microseconds; 0 is just after the last read.")] = 0,
    seed: int = 0,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Run an arm through the gates on this site's own log, and train a model of which there is no version yet; exit 3 when a gate is not passed."""
    from dataclasses import asdict

    from experiments.settings import load_settings
    from recsys.gates import check_arm
    from web.cli.output import print_json, print_table, tell
    from web.cli.science import trained
    from web.imported import last_read_us

    folder = load_settings(home).home
    done = check_arm(name, folder, until_us=until or last_read_us(folder) + 1, seed=seed)
    first = trained(folder, name, until=until, seed=seed)[1] if done.passed and _untrained(folder, name) else None
    if as_json:
        print_json({**asdict(done), **({"trained": first} if first else {})})
    else:
        marks = {True: "passed", False: "FAILED", None: "not yet"}
        rows = [(g.number, g.name, marks[g.passed], g.figure, g.limit, g.reason, f"{g.seconds:.1f}") for g in done.gates]
        print_table(f"{name}, run {done.run}", ("", "gate", "", "figure", "limit", "reason", "seconds "), rows)
        if done.earlier_looks:
            tell(f"These later page views have judged this arm {done.earlier_looks} time(s) before: a look more makes them worth less.")
        tell("Gate 4, a thousand real requests in shadow, comes with readers.")
        if first:
            tell(f"The first training was {first.get('state', 'not finished')}: {first.get('says') or first.get('reason')}")
        if done.passed:
            tell(f"Next: presslab experiment plan FILE, with {name} among the arms; then presslab arm ship {name} --experiment NAME")
    if not done.passed:
        raise typer.Exit(3)


def _untrained(home: Path, name: str) -> bool:
    from experiments.serving.artefacts import current
    from experiments.serving.recommender import arm_class

    return hasattr(arm_class(name), "load") and current(home, name) is None


@arm.command("half-life")
def half_life(home: Home = None, as_json: Json = False) -> None:
    """How quickly heat should fade on this site, from its own last seven days; exit 3 when another value is clearly better."""
    from dataclasses import asdict

    from experiments.settings import load_settings
    from recsys.half_life import proposal_for
    from web.cli.output import print_json, print_table, tell
    from web.imported import last_read_us

    folder = load_settings(home).home
    found = proposal_for(folder, until_us=last_read_us(folder) + 1)
    if as_json:
        print_json(asdict(found))
    else:
        print_table("Heat by half-life", ("hours ", "hit rate at 10 "), [(f"{h:g}", f"{rate:.3f}") for h, rate in found.hit_rates.items()])
        tell(f"{found.says}.")
    if found.proposed != found.current:
        raise typer.Exit(3)
