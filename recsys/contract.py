"""What every arm must keep, as checks that run over any registered arm: its author writes no test to get them.

``tests/test_arm_contract.py`` runs them in the suite, ``presslab arm check`` as the first gate.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event, get_ident
from typing import Any

import numpy as np

from experiments.errors import ArmError
from experiments.serving.answers import LateError, said, sound, within
from experiments.serving.artefacts import read_bundle, write_bundle
from experiments.serving.pick import Picker
from experiments.serving.recommender import Article, Catalogue, Context, Explainable, Ranking, Recommender
from experiments.serving.signals import HOUR, Signals, build_signals, signals_to_arrays
from experiments.serving.slate import SlateRules, build_slate
from recsys.practice import UNTIL, OnTrial, fitted, later_reads

__all__ = ["CHECKS", "broken_promises"]

ADDITIVITY = 1e-6
CALM = SlateRules(explore=0.0)
PATIENT_MS = 60_000.0
CHECK_S = 60.0  # an arm that hangs is told so; the slowest check trains a model twice, in seconds
FORBIDDEN = ("open", "socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.system")


def broken_promises(trial: OnTrial) -> list[str]:
    """Return one sentence per check the arm fails; empty when it keeps the contract."""
    found, late = [], False
    for name, check in CHECKS.items():
        try:
            fault = "not looked at any more" if late else within(CHECK_S, partial(check, trial), doing="it")
        except LateError as error:  # further checks would wait as long
            late, fault = True, error.what
        except Exception as error:  # an arm is foreign code: whatever it raises is its fault, told under the check's name
            fault = said(error)
        if fault:
            found.append(f"{name.replace('_', ' ')}: {fault}")
    return found


def _well_formed(ranking: Ranking, context: Context) -> str:
    try:
        ranking = sound(ranking)  # what readers would not get
    except ArmError as error:
        return error.what
    articles, scores = ranking.articles.tolist(), ranking.scores
    outside = set(articles) - set(context.pool.tolist())
    faults = [
        (len(set(articles)) != len(articles), "an article comes twice"),
        (bool(outside), f"positions {sorted(outside)[:5]} are not in the pool"),
        (bool((np.diff(scores) > 0).any()), "scores rise from one place to the next"),
    ]
    return next((says for bad, says in faults if bad), "")


def ranks_distinct_articles_of_the_pool(trial: OnTrial) -> str:
    arm = trial.arm()
    return next((fault for context in trial.requests if (fault := _well_formed(arm.rank(context), context))), "")


def slates_are_full_distinct_and_showable(trial: OnTrial) -> str:
    """Never the open article, a read one, a withdrawn or embargoed one, two of a story; the ladder fills what the arm leaves."""
    arm, catalogue = trial.arm(), trial.site.catalogue
    for context in trial.requests:
        for n in (0, 1, 6, 10**6):
            asked = replace(context, n=n)
            shown = [item.article for item in build_slate(arm.rank(asked), asked, rules=CALM).items]
            hidden = [a for a in shown if catalogue.withdrawn[a] or catalogue.published[a] > UNTIL or a in (asked.article, *asked.reads)]
            if hidden or len(set(shown)) != len(shown) or len(shown) != min(n, CALM.n):
                return f"{len(shown)} places for n = {n}, of which not to be shown: {hidden}"
    return ""


def same_request_same_list(trial: OnTrial) -> str:
    first, second = trial.arm(), trial.arm()
    for context in trial.requests:
        lists = [arm.rank(context) for arm in (first, first, second)]
        if any(not _equal(lists[0], other) for other in lists[1:]):
            return "the same request and seed gave another list"
    return ""


def _equal(a: Ranking, b: Ranking) -> bool:
    return np.array_equal(a.articles, b.articles) and np.array_equal(a.scores, b.scores) and tuple(a.sources) == tuple(b.sources)


def an_empty_pool_gives_an_empty_list(trial: OnTrial) -> str:
    ranking = trial.arm().rank(trial.ask(pool=np.zeros(0, np.int32)))
    return f"{len(ranking.articles)} articles out of nothing" if len(ranking.articles) else ""


def a_site_without_reads_is_served(trial: OnTrial) -> str:
    return next(
        (fault for reads in ((), (60, 64)) if (fault := _fault_on(trial, reads=reads, signals=Signals.empty(trial.site.catalogue, UNTIL)))),
        "",
    )


def _fault_on(trial: OnTrial, **changes: Any) -> str:
    asked = trial.ask(**changes)
    return _well_formed(trial.arm().rank(asked), asked)


def articles_newer_than_the_model_are_no_obstacle(trial: OnTrial) -> str:
    """The catalogue grew since training: new articles are open, read and in the pool, and old ones have moved."""
    at = datetime.fromtimestamp(UNTIL - HOUR, UTC)
    new = [Article(f"a{i}", "New", "", "", "an unknown section" if i else "city", "nobody", at) for i in range(5)]
    grown = Catalogue([*trial.site.catalogue.articles, *new])
    arm, signals = trial.arm(grown), Signals.empty(grown, UNTIL)
    contexts = [trial.ask(article=a, reads=r, signals=signals) for a, r in ((0, (1, 2)), (3, ()), (None, (0, 1, 90)), (80, (2, 94)))]
    only_new = trial.ask(article=None, signals=signals, pool=np.arange(5, dtype=np.int32))
    return next((fault for asked in (*contexts, only_new) if (fault := _well_formed(arm.rank(asked), asked))), "")


def written_and_read_it_is_the_same_arm(trial: OnTrial) -> str:
    if trial.arrays is None or trial.about is None:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder) / "arm", trial.arrays, trial.about)
        loaded = trial.kind.load(*read_bundle(bundle.path, sha256=bundle.sha256), trial.site.catalogue)
    arm = trial.arm()
    return "" if all(_equal(arm.rank(c), loaded.rank(c)) for c in trial.requests) else "the bundle from disk ranks differently"


def inputs_stay_as_they_were(trial: OnTrial) -> str:
    """Signals are shared by all requests of a process: one written byte changes every later page."""
    asked = replace(trial).requests  # fresh ones: an earlier call may have written already
    before = [_bytes(context) for context in asked]
    arm = trial.arm()
    for context in asked:
        arm.rank(context)
    return "" if [_bytes(context) for context in asked] == before else "the pool or the signals were written to"


def _bytes(context: Context) -> tuple[bytes, ...]:
    parts = [context.pool, *signals_to_arrays(context.signals).values()]
    catalogue: Catalogue = context.signals.catalogue
    return tuple(np.asarray(part).tobytes() for part in (*parts, catalogue.published, catalogue.section, catalogue.withdrawn))


def opens_no_file_and_no_connection(trial: OnTrial) -> str:
    arm = trial.arm()
    arm.rank(trial.ask())  # a first call may still import
    with _watched() as seen:
        for context in trial.requests:
            arm.rank(context)
    return f"{seen[0]} during a request" if seen else ""


@contextmanager
def _watched() -> Iterator[list[str]]:
    """Note what this thread opens; Python's audit hooks cannot be taken away again, so the hook is switched off after."""
    seen: list[str] = []
    state = {"on": True, "thread": get_ident()}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if state["on"] and event in FORBIDDEN and get_ident() == state["thread"]:
            seen.append(f"{event}({arguments[0]!r})" if arguments else event)

    sys.addaudithook(hook)
    try:
        yield seen
    finally:
        state["on"] = False


def late_or_failing_the_reader_still_gets_a_slate(trial: OnTrial) -> str:
    """The deadline replaces a stuck call by the ladder and says so; within it the arm itself is served."""
    stuck, arm = Event(), trial.arm()
    if arm.kind == "status_quo":
        return ""
    asked = trial.ask()
    late = _Replaced(arm, lambda context: (stuck.wait(10), arm.rank(context))[1])
    failing = _Replaced(arm, _fail)
    try:
        picks = [Picker(deadline_ms=limit).pick(one, asked, rules=CALM) for one, limit in ((late, 1.0), (failing, PATIENT_MS))]
    finally:
        stuck.set()
    served = Picker(deadline_ms=PATIENT_MS).pick(arm, asked, rules=CALM)
    told = [pick.outcome for pick in (*picks, served)]
    if told != ["fallback", "fallback", "served"]:
        return f"late, failing and normal calls ended as {', '.join(told)} {served.reason}"
    return "" if all(len(pick.slate.items) == CALM.n for pick in picks) else "the slate is short"


@dataclass(slots=True)
class _Replaced:
    """The arm with another ``rank``."""

    arm: Recommender
    rank: Callable[[Context], Ranking]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.arm, name)


def _fail(_: Context) -> Ranking:
    raise RuntimeError("asked to fail")


def reasons_add_up_to_the_score(trial: OnTrial) -> str:
    arm = trial.arm()
    if not isinstance(arm, Explainable):
        return ""
    for context in trial.requests:
        ranking = arm.rank(context)
        for article, score in zip(ranking.articles.tolist(), ranking.scores.tolist(), strict=True):
            parts = [value for _, value in arm.explain(context, article)]
            if abs(sum(parts) - score) > ADDITIVITY * max(1.0, abs(score)):
                return f"reasons add up to {sum(parts):.6f}, the score is {score:.6f}"
    return ""


def what_happens_later_changes_nothing(trial: OnTrial) -> str:
    """Reads after the request move neither the signals, nor what is learned, nor the slate."""
    more = later_reads(trial.site)
    signals = build_signals(more, trial.site.catalogue, at=UNTIL, rules=trial.site.signal_rules)
    again = trial if trial.arrays is None else OnTrial(trial.kind, trial.site, *fitted(trial.kind, trial.site, more))
    before, after = trial.arm(), again.arm()
    same = all(_equal(before.rank(c), after.rank(replace(c, signals=signals))) for c in trial.requests)
    return "" if same else "reads after the request changed a list"


CHECKS: Mapping[str, Callable[[OnTrial], str]] = {
    check.__name__: check
    for check in (
        ranks_distinct_articles_of_the_pool,
        slates_are_full_distinct_and_showable,
        same_request_same_list,
        an_empty_pool_gives_an_empty_list,
        a_site_without_reads_is_served,
        articles_newer_than_the_model_are_no_obstacle,
        written_and_read_it_is_the_same_arm,
        inputs_stay_as_they_were,
        opens_no_file_and_no_connection,
        late_or_failing_the_reader_still_gets_a_slate,
        reasons_add_up_to_the_score,
        what_happens_later_changes_nothing,
    )
}
