"""What a demo found, beside what was true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from experiments.events.store import balance
from experiments.files import read_json
from experiments.serving.artefacts import current
from experiments.tables import control_engine
from web.cli.output import print_json
from web.jobs import last_runs
from web.owner.words import spoken

if TYPE_CHECKING:
    from web.demo.run import Demo

__all__ = ["outcome", "show"]


def outcome(demo: Demo) -> dict[str, Any]:
    """Return the JSON of ``presslab demo --json`` (DESIGN: JSON shapes)."""
    path = demo.home / "reports" / "related.json"
    report = read_json(path) or {}
    truth = demo.truth
    assert truth is not None
    site = f"http://{demo.settings.host}:{demo.settings.port}"
    models = [(arm, current(demo.home, arm)) for arm in ("als", "ranked")]
    return {
        "report": str(path),
        "site": site,
        "page": f"{site}/console/en/experiment/related",
        "world": {"name": demo.world.name, "says": demo.world.says},
        "truth": {metric: dict(arms) for metric, arms in truth.uplifts.items()},
        "estimated": _estimated(report, set(truth.uplifts)),
        "verdict": report.get("verdict"),
        "models": [{"arm": arm, "version": pointer.version, "alias": "live"} for arm, pointer in models if pointer],
        "events": _events(demo),
        "jobs": _jobs(demo),
        "requests": _requests(demo),
        "seconds": demo.seconds,
        "plan": {"readers": demo.plan.readers, "days": demo.plan.days, "seed": demo.plan.seed, "now": demo.plan.now.isoformat()},
    }


def _events(demo: Demo) -> dict[str, Any]:
    rows = balance(demo.home)
    names = {"received": "received", "stored": "stored", "duplicate": "duplicate", "rejected": "dead", "pending": "pending"}
    counted = {name: sum(getattr(row, key) for row in rows) for name, key in names.items()}
    return {**counted, "balance": "exact" if all(row.exact for row in rows) else "off"}


def _jobs(demo: Demo) -> list[dict[str, Any]]:
    runs = last_runs(control_engine(demo.home), each=1)
    return [
        {"name": name, "state": rows[0].state, "seconds": rows[0].seconds, "reason": rows[0].reason} for name, rows in sorted(runs.items())
    ]


def _requests(demo: Demo) -> dict[str, Any]:
    if demo.life is None:
        return {}
    wire = demo.life.wire
    counts = {"sent": wire.requests, "retried": wire.retries, "refused": wire.refused}
    return {**counts, "waited_s": round(demo.life.waited_s, 2)}


def _estimated(report: dict[str, Any], metrics: set[str]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Relative effects against the control, by metric and arm."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for effect in report.get("effects", ()):
        if effect["metric"] in metrics and effect["against"] == report.get("control"):
            found.setdefault(effect["metric"], {})[effect["arm"]] = effect["relative"] or {"estimate": None, "low": None, "high": None}
    return found


def show(result: dict[str, Any], console: Console, *, as_json: bool) -> None:
    """Print the outcome: the verdict first, then estimate beside truth."""
    if as_json:
        print_json(result)
        return
    verdict = result["verdict"] or {}
    console.print(f"\n[bold]{spoken(verdict.get('sentence', 'No verdict.'))}[/bold]")
    for reason in verdict.get("reasons", ()):
        console.print(f"  · {spoken(reason)}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("change in", "left"),
        ("arm", "left"),
        ("estimate", "right"),
        ("range", "left"),
        ("truth", "right"),
        ("holds it?", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for metric, arms in result["truth"].items():
        for arm, true in arms.items():
            row = result["estimated"].get(metric, {}).get(arm, {})
            table.add_row(metric, arm, _percent(row.get("estimate")), _range(row), _percent(true), _holds(row, true))
    console.print()
    console.print(table)
    console.print(f"\nThe world drawn was [bold]{result['world']['name']}[/bold]: {result['world']['says']}")
    console.print(f"Repeat these readers and this world with --seed {result['plan']['seed']}.")
    events = result["events"]
    console.print(
        f"Events: {events['received']:,} received, {events['stored']:,} stored, {events['duplicate']:,} duplicate, {events['rejected']:,} rejected,"
        f" {events['pending']:,} pending; balance {events['balance']}."
    )
    bad = [job for job in result["jobs"] if job["state"] not in ("done", "running")]
    for job in bad:
        console.print(f"Job {job['name']}: {job['state']}: {job['reason']}")
    console.print(f"Report: {result['page']}   ({result['report']})   {result['seconds']['total']:.0f} s in all")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1%}"


def _range(row: dict[str, float | None]) -> str:
    return "not estimable" if row.get("low") is None else f"{_percent(row['low'])} to {_percent(row['high'])}"


def _holds(row: dict[str, float | None], true: float | None) -> str:
    low, high = row.get("low"), row.get("high")
    if low is None or high is None or true is None:
        return "–"
    return "yes" if low <= true <= high else "no"
