"""What an arm must pass before readers see it: five gates, each with a figure, a limit, a reason and the seconds it took.

The sixth, a thousand real requests in shadow, comes with readers (OPERATIONS §2, gate 4).
"""

from __future__ import annotations

import importlib
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.clock import moment
from experiments.errors import ArmError, DataError
from experiments.files import read_json, replace_json
from experiments.serving.answers import contained
from experiments.serving.artefacts import write_bundle
from experiments.serving.recommender import Recommender, arm_class
from experiments.settings import load_settings
from recsys.card import model_card, unfilled
from recsys.comparison import PLACES, paired
from recsys.contract import CHECKS, broken_promises
from recsys.footprint import footprint_mb
from recsys.judging import LEAST_REQUESTS, later_requests
from recsys.practice import on_trial
from recsys.replay import Replayed, replay, variety
from recsys.source import Source, read_source

__all__ = ["Checked", "Gate", "Limits", "check_arm", "diversity", "waited"]

AGAINST = "front"
JUDGED_BY_READS = ((2, "speed and memory"), (3, "offline against the heuristic"), (5, "diversity"))


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gates ask for (OPERATIONS §2).

    Parameters
    ----------
    slates : built for the speed gate. p99_ms, late_share : of them. memory : times that of a process with the heuristic.
    coverage, age : times the heuristic's. gini : above the heuristic's. ladder : share of places the arm may leave to it.
    """

    slates: int = 10_000
    p99_ms: float = 15.0
    late_share: float = 0.001
    memory: float = 1.10
    coverage: float = 0.8
    gini: float = 0.05
    age: float = 1.5
    ladder: float = 0.20


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate. ``passed`` is None when there was nothing to judge by; ``reason`` says what to do when it is not True."""

    number: int
    name: str
    passed: bool | None
    figure: str
    limit: str
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check, as it is stored under ``home/gates/ARM/RUN.json``.

    Parameters
    ----------
    passed : all gates did. earlier_looks : checks before this one that judged by the same later page views.
    """

    run: int
    arm: str
    against: str
    until: str
    split: str
    earlier_looks: int
    passed: bool
    gates: tuple[Gate, ...]
    card: dict[str, str]


@dataclass(frozen=True)
class _Tried:
    """The arm, fitted before the split, beside the heuristic ``against`` on later page views."""

    kind: Any
    against: str

    replayed: Mapping[str, Replayed]
    arrays: Mapping[str, Any] | None
    about: Mapping[str, Any] | None
    split: float


def check_arm(
    name: str, home: Path, *, until_us: int, seed: int = 0, limits: Limits = Limits(), footprint: Callable[..., float] = footprint_mb
) -> Checked:
    """Run the gates on the home's own log and store the result.

    Parameters
    ----------
    until_us : data before this time (UTC microseconds) is used. footprint : megabytes of a process that serves an arm.

    Raises
    ------
    ArmError
        The arm is unknown, or is loaded from a bundle that nobody makes.
    """
    kind: Any = arm_class(name)
    gates = [_timed(lambda: _contract(kind))]
    tried: _Tried | None = None
    try:
        source = read_source(home, until_us=until_us, agreed_only=kind.audience == "agreed")
        found = tried = contained(lambda: _try(kind, source, until=until_us / 1e6, seed=seed, limits=limits))
        mine, rule = found.replayed[name], found.replayed[AGAINST]
        gates += [
            _timed(lambda: _speed(found, home, limits, footprint)), _timed(lambda: _offline(found)),
            _timed(lambda: diversity(mine, rule, limits)),
        ]  # fmt: skip
    except DataError as error:
        gates += [Gate(number, says, None, "not yet", "", str(error)) for number, says in JUDGED_BY_READS]
    except Exception as error:  # an arm is foreign code: whatever it raises is its fault
        gates += [Gate(number, says, False, "it failed", "", _raised(error)) for number, says in JUDGED_BY_READS]
    card = model_card(kind, tried.about if tried else None, _slices(tried) if tried else "")
    gates.append(_timed(lambda: _complete(card)))
    return _stored(home, name, gates, card=card, until_us=until_us, split=tried.split if tried else until_us / 1e6)


def _timed(gate: Callable[[], Gate]) -> Gate:
    began = time.perf_counter()
    found = gate()
    return Gate(**{**asdict(found), "seconds": round(time.perf_counter() - began, 2)})


def _raised(error: Exception) -> str:
    """What an arm raised and on which of its lines."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"


def _contract(kind: Any) -> Gate:
    try:
        broken = broken_promises(contained(lambda: on_trial(kind)))
    except ArmError:
        raise
    except Exception as error:  # of its Trainer or its load, before the first check
        return Gate(1, "contract", False, "it cannot be built", "all", _raised(error))
    return Gate(1, "contract", not broken, f"{len(CHECKS) - len(broken)} of {len(CHECKS)} kept", "all", "; ".join(broken))


def _try(kind: Any, source: Source, *, until: float, seed: int, limits: Limits) -> _Tried:
    split, asked = later_requests(source.reads, until, seed)
    if len(asked) < LEAST_REQUESTS:
        raise DataError(
            f"only {len(asked)} later page views to judge by, {LEAST_REQUESTS} are needed.", "Wait for readers, or import a log."
        )
    arrays = about = None
    arms: dict[str, Recommender] = {}
    if hasattr(kind, "load"):
        trainer = importlib.import_module(kind.trainer).Trainer(source.reads, source.site, until=until, seed=seed)
        arrays, about = trainer.fit(split)
        fits = {kind.name: (arrays, about), **{key: trainer.fit(split, without) for key, without in trainer.ablations.items()}}
        arms = {key: kind.load(*fit, source.site.catalogue) for key, fit in fits.items()}
    else:
        arms[kind.name] = kind()
    arms.setdefault(AGAINST, arm_class(AGAINST)())
    replayed = replay(arms, asked, source.site, timed=kind.name, slates=limits.slates, hopeless_ms=limits.p99_ms)
    return _Tried(kind, AGAINST, replayed, arrays, about, split)


def _speed(tried: _Tried, home: Path, limits: Limits, footprint: Callable[..., float]) -> Gate:
    name, mine = tried.kind.name, tried.replayed[tried.kind.name]
    times = np.array(mine.slate_ms)
    waiting = waited(mine, limits.p99_ms)
    p99, late = float(np.percentile(times, 99)), float((times > load_settings(home).deadline_ms).mean())
    with tempfile.TemporaryDirectory() as folder:
        bundle = None if tried.arrays is None else write_bundle(Path(folder) / name, tried.arrays, tried.about or {}).path
        taken, usual = footprint(name, home, bundle), footprint(tried.against, home, None)
    most = limits.memory * usual
    faults = [
        (p99 > limits.p99_ms, f"one slate in a hundred takes {p99:.1f} ms or more{waiting}"),
        (late > limits.late_share, f"{late:.2%} of slates miss the deadline"),
        (taken > most, f"a process with it takes {taken:.0f} MB, with '{tried.against}' {usual:.0f} MB"),
    ]
    figure = f"p99 {p99:.1f} ms, late {late:.2%} of {len(mine.slate_ms):,}, {taken:.0f} MB"
    limit = f"{limits.p99_ms:g} ms, {limits.late_share:.1%}, {most:.0f} MB"
    return _judged(2, "speed and memory", figure, limit, faults)


def waited(mine: Replayed, limit_ms: float) -> str:
    """Return what to add about an arm that computes within the limit and waits beyond it; else nothing."""
    computing = float(np.percentile(mine.cpu_ms, 99))
    return f", {computing:.1f} ms of computing: check again on a quiet machine, unless it waits by itself" if computing <= limit_ms else ""


def _judged(number: int, name: str, figure: str, limit: str, faults: list[tuple[bool, str]]) -> Gate:
    told = [says for bad, says in faults if bad]
    return Gate(number, name, not told, figure, limit, "; ".join(told))


def _offline(tried: _Tried) -> Gate:
    name = tried.kind.name
    mine, rule = tried.replayed[name], tried.replayed[tried.against]
    gap = paired(name, tried.against, hits=(mine.hits(PLACES), rule.hits(PLACES)), readers=mine.readers)
    mean, low, high = gap.difference, gap.low, gap.high
    half = (high - low) / 2
    if not any(one.hits(PLACES).any() for one in tried.replayed.values()):
        says = f"on {len(mine.places)} later page views no arm placed the next article among ten: nothing compares them"
        return Gate(3, "offline against the heuristic", None, "not yet", "", says)
    others = [f"{other.replace('_', ' ')} {r.hits(PLACES).mean():.1%}" for other, r in tried.replayed.items() if other != name]
    figure = f"hit rate at 10 {mine.hits(PLACES).mean():.1%} ({', '.join(others)}); {mean:+.1%}, range {low:+.1%} to {high:+.1%}"
    limit = f"at least {-half:+.1%} on {len(mine.places):,} page views"
    reason = f"it places the next article among ten less often than '{tried.against}', by more than the uncertainty"
    waived = str(getattr(tried.kind, "waived", ""))
    if mean >= -half:
        reason = waived = ""
    return Gate(
        3, "offline against the heuristic", not reason or bool(waived), figure, limit, f"{reason}; waived: {waived}" if waived else reason
    )


def diversity(mine: Replayed, rule: Replayed, limits: Limits = Limits()) -> Gate:
    """Return gate 5: as broad, as fresh and as much the arm's own as the heuristic's slates."""
    own, usual = variety(mine), variety(rule)
    faults = [
        (own.articles < limits.coverage * usual.articles, f"only {own.articles} different articles, the heuristic shows {usual.articles}"),
        (own.gini > usual.gini + limits.gini, "it shows a few articles far more often than the others"),
        (own.age_h > limits.age * usual.age_h, f"half of what it shows is older than {own.age_h:.0f} h"),
        (own.ladder_share > limits.ladder, f"{own.ladder_share:.0%} of the places are filled by the ladder, not by the arm"),
    ]
    figure = f"{own.articles} articles, Gini {own.gini:.2f}, median age {own.age_h:.1f} h, ladder {own.ladder_share:.0%}"
    least, oldest = limits.coverage * usual.articles, limits.age * usual.age_h
    return _judged(
        5, "diversity", figure, f"{least:.0f} articles, {usual.gini + limits.gini:.2f}, {oldest:.1f} h, {limits.ladder:.0%}", faults
    )


def _slices(tried: _Tried) -> str:
    """Hit rates of readers with and without earlier reads."""
    mine, rule = tried.replayed[tried.kind.name], tried.replayed[tried.against]
    told = []
    for says, rows in (("with earlier reads", mine.history), ("without", ~mine.history)):
        if rows.any():
            rates = [one.hits(PLACES)[rows].mean() for one in (mine, rule)]
            told.append(f"{says} {rates[0]:.1%} ({tried.against} {rates[1]:.1%}, n = {int(rows.sum())})")
    return "hit rate at 10 of page views " + ", ".join(told)


def _complete(card: Mapping[str, str]) -> Gate:
    missing = unfilled(card)
    reason = f"still empty: {', '.join(missing)}; fill in the attribute `card` of the class" if missing else ""
    return Gate(6, "model card", not missing, f"{len(card) - len(missing)} of {len(card)} fields", "all", reason)


def _stored(home: Path, name: str, gates: list[Gate], *, card: dict[str, str], until_us: int, split: float) -> Checked:
    folder = home / "gates" / name
    runs = sorted(int(path.stem) for path in folder.glob("[0-9]*.json"))
    until = moment(until_us).isoformat()
    earlier = sum((read_json(folder / f"{run:04d}.json") or {}).get("until") == until for run in runs)
    done = Checked(
        runs[-1] + 1 if runs else 1, name, AGAINST, until, moment(round(split * 1e6)).isoformat(), earlier,
        all(gate.passed for gate in gates), tuple(gates), card,
    )  # fmt: skip
    replace_json(folder / f"{done.run:04d}.json", asdict(done))
    return done
