"""Is all well? What the console and the doctor say about a running installation."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analysis.words import count
from experiments.errors import PresslabError, StoreDownError
from experiments.events.store import BalanceRow, alarms, balance, read_store, store_path
from experiments.files import damaged_results, read_json
from experiments.ladder import decided_arms
from web.arm_health import DAY_US, arm_health
from web.backups import backup_checks
from web.edge import edge_counts
from web.published import Published
from web.stored import Stored
from web.why_failed import why_failed
from web.worker_state import worker_state

__all__ = ["health_of"]

PACKAGES = ("presslab", "flask", "implicit", "mlflow", "shap", "apscheduler", "statsmodels", "scikit-learn")
COUNTED = ("received", "stored", "compacted", "duplicate", "conflict", "dead", "erased", "pending")
ALWAYS = ("received", "stored", "duplicate", "dead", "pending")
LEAST_FREE_GIB = 1.0
ENOUGH_CALLS, LEAST_OWN = 100, 0.95  # slates, and the share an arm must fill itself
NO_EDGE: dict[str, Any] = {"seen": 0, "accepted": 0, "rejected": {}, "refused": {}}


def health_of(stored: Stored, published: Published, fault: str, missing: Callable[[Path], str] = lambda _: "") -> dict[str, Any]:
    """Return ``{state, says, checks, balance, versions}``; ``says`` names the first broken thing.

    Parameters
    ----------
    fault : why the event that was just written is not durable. missing : says that an earlier one is not in the store.
    """
    rows, edge, arms, stores = _events(stored, missing)
    checks = [*_checks(stored, published, fault, exact=all(row.exact for row in rows))]
    checks[1:1] = stores
    checks += _answers(arms)
    broken = [check for check in checks if check["state"] == "block"] or [check for check in checks if check["state"] == "warn"]
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    counted = [{"kind": r.kind, "arm": r.arm, **{key: getattr(r, key) for key in COUNTED}} for r in rows]
    return {
        "state": "broken" if broken else "ok",
        "says": broken[0]["says"] if broken else "",
        "checks": checks,
        "balance": counted,
        "counted": [key for key in COUNTED if key in ALWAYS or any(row[key] for row in counted)],
        "edge": edge,
        "versions": versions,
    }


def _events(
    stored: Stored, missing: Callable[[Path], str]
) -> tuple[list[BalanceRow], dict[str, Any], dict[str, Any], list[dict[str, str]]]:
    """The balance, what arrived at the edge, how arms answered, whether store and outboxes can be read; nothing is counted while the store cannot."""
    path, says = store_path(stored.home), "Nothing was loaded yet."
    try:
        if path.exists():
            with closing(read_store(path)) as store:
                says = f"{store.says}, answers."
        now = stored.clock()
        return (
            balance(stored.home),
            edge_counts(stored.home, until_us=now),
            _with_reasons(arm_health(stored.home, until_us=now), stored.home, now),
            [
                _check("event store", True, says, ""),
                _check(
                    "events arrive", not (lost := missing(stored.home)), "No event of this process waits for longer than two minutes.", lost
                ),
                _outboxes(alarms(stored.home)),
            ],
        )
    except StoreDownError as error:
        return [], NO_EDGE, {}, [_check("event store", False, "", str(error))]


def _with_reasons(arms: dict[str, Any], home: Path, now_us: int) -> dict[str, Any]:
    """Add ``why``: the words that most readers met where an arm was replaced, in a test."""
    reasons = why_failed(home, since_us=now_us - DAY_US) if any(told["causes"] for told in arms.values()) else {}
    return {name: {**told, "why": reasons.get(name, "")} for name, told in arms.items()}


def _outboxes(damaged: Mapping[Path, str]) -> dict[str, str]:
    found = "; ".join(f"{path}: {why}" for path, why in damaged.items())
    words = f"What precedes the damage was loaded, the rest waits: {found}. Look at the disk, then run presslab data salvage."
    return _check("outbox files", not damaged, "Every file could be read.", words)


def _checks(stored: Stored, published: Published, fault: str, *, exact: bool) -> Iterator[dict[str, str]]:
    yield _check("events become durable", not fault, "An event was just written and is on disk.", fault)
    silent = stored.worker_silence()
    yield _check("worker", not silent, _worker_words(stored), silent)
    for name, words in ((worker_state(stored.home) or {}).get("faults") or {}).items():
        yield _check(name, False, "", words)
    yield _check(
        "nothing lost", exact, "Every event received is accounted for.", "Events are missing or were counted twice: run presslab doctor."
    )
    faults = dict(published.faults)
    desk, sections = faults.pop("desk", ""), len(published.desk.sections)
    yield _check("desk", not desk, f"{published.desk.name}, {sections} section{'' if sections == 1 else 's'}.", desk)
    yield _check(
        "arms and models",
        not faults,
        f"Ready: {', '.join(sorted(published.arms))}.",
        "; ".join(f"{k}: {v}" for k, v in faults.items()),
    )
    yield from _decided(stored)
    yield _registry(stored)
    for job in stored.jobs()[1:]:
        if job["state"] == "failed" or job["overdue"]:
            yield _check(
                f"job {job['name']}",
                False,
                "",
                f"{job['name']} {'is overdue' if job['overdue'] else 'failed'}: {job['reason'] or 'no reason was recorded'}",
            )
    yield from _damaged(stored.home)
    anew = read_json(stored.home / "checks" / "assignment.json")
    if anew is not None:
        yield _check("readers assigned anew", anew["p"] is None or anew["p"] >= 0.001, anew["says"], anew["says"])
    free = shutil.disk_usage(stored.home).free / 2**30
    yield _check(
        "disk", free > LEAST_FREE_GIB, f"{free:.0f} GiB are free.", f"Only {free:.2f} GiB are free; below 0.5 GiB events are refused."
    )
    yield from backup_checks(stored.settings, stored.clock)


def _damaged(home: Path) -> Iterator[dict[str, str]]:
    """One line for all results that read as absent because they are damaged."""
    if found := damaged_results(home):
        says = f"{' '.join(error.what for error in found)} Pages go on as if it were not there. Its job writes it anew (page Jobs, Run now); a report: presslab experiment report NAME."
        yield {"name": "results of jobs", "state": "warn", "says": says}


def _decided(stored: Stored) -> Iterator[dict[str, str]]:
    """One line per decided arm that a guardrail took back, or whose version before serves again."""
    for one in decided_arms(stored.engine):
        if one.state == "held":
            says = f"'{one.arm}' is held at version {one.version}: {one.why}. Mend the cause, then: presslab arm resume {one.arm} --reason '...'"
        elif one.state == "stopped":
            says = f"'{one.arm}' was taken from all readers, who get what was decided before: {one.why}. Mend the cause, then: presslab arm resume {one.arm} --reason '...'"
        else:
            continue
        yield {"name": f"decided arm {one.arm}", "state": "warn", "says": says}


def _answers(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """One line per arm that was asked in the last 24 hours; readers who get another arm's slates are no test of this one."""
    for name, told in arms.items():
        says = f"{name} filled {told['own']:.1%} of {count(told['calls'], 'slate')} itself in the last 24 hours, 99 of 100 within {told['p99_ms']:.3g} ms"
        causes = ", ".join(f"{cause} {n:,} times" for cause, n in told["causes"].items())
        says = f"{says}; {causes}." if causes else f"{says}."
        says += f" Most often {told['why']}." if told["why"] else ""
        low = told["calls"] >= ENOUGH_CALLS and told["own"] < LEAST_OWN
        yield {"name": f"arm {name}", "state": "warn" if low else "ok", "says": says}


def _registry(stored: Stored) -> dict[str, str]:
    try:
        state = stored.registry()
    except (PresslabError, OSError, ValueError) as error:
        return _check("model registry", False, "", f"What MLflow said last cannot be read: {error}")
    if state is None:
        return {"name": "model registry", "state": "ok", "says": "MLflow has not been asked yet."}
    reason = str(state.get("reason")).rstrip(".")
    broken = f"MLflow does not answer: {reason}. Models keep serving; versions are not recorded."
    if state.get("unreadable"):
        broken = f"MLflow lacks what cannot be read here: {reason}. What is in force keeps serving."
    return _check("model registry", not state.get("reason"), "MLflow holds every published version.", broken)


def _worker_words(stored: Stored) -> str:
    state = worker_state(stored.home) or {"pid": "?", "age_s": 0.0}
    return f"Process {state['pid']} reported {state['age_s']:.0f} s ago."


def _check(name: str, good: bool, well: str, broken: str) -> dict[str, str]:
    return {"name": name, "state": "ok" if good else "block", "says": well if good else broken}
