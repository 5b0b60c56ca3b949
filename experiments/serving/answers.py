"""What code of an arm answers, taken with care: whatever it returns, raises or never returns ends as an answer or an error of ours."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import numpy as np

from experiments.errors import ArmError, PresslabError
from experiments.serving.recommender import Ranking

__all__ = ["MOST_SOURCE", "LateError", "contained", "said", "sound", "timed_out", "within"]

MOST_SOURCE = 64  # characters: a slate with its sources must fit into one event
T = TypeVar("T")


class LateError(ArmError):
    """Code of an arm was not ready in time; it may still go on."""


def sound(answer: Any) -> Ranking:
    """Return an arm's answer as the slate builder takes it: whole positions, finite scores and short words, as many of each.

    Raises
    ------
    ArmError
        It is no such ranking; the sentence names what is wrong.

    Examples
    --------
    >>> sound(Ranking(np.array([3, 5]), np.array([0.9, 0.1]), ("heat", "heat"))).articles.dtype
    dtype('int32')
    >>> sound(None)
    Traceback (most recent call last):
    experiments.errors.ArmError: P040 rank returned NoneType instead of a Ranking.
    """
    if not isinstance(answer, Ranking):
        raise ArmError(f"rank returned {type(answer).__name__} instead of a Ranking.")
    articles, scores, sources = answer.articles, answer.scores, answer.sources
    if not (isinstance(articles, np.ndarray) and isinstance(scores, np.ndarray) and articles.ndim == scores.ndim == 1):
        raise ArmError("rank returned articles or scores that are not arrays of one dimension.")
    if not len(articles) == len(scores) == len(sources):
        raise ArmError(f"rank returned {len(articles)} articles, {len(scores)} scores and {len(sources)} sources; they differ in number.")
    if not len(articles):
        return Ranking.empty()
    if articles.dtype.kind not in "iu":
        raise ArmError(f"rank returned positions of the kind {articles.dtype}, not whole numbers.")
    if scores.dtype.kind not in "iuf":
        raise ArmError(f"rank returned scores of the kind {scores.dtype}, not numbers.")
    with np.errstate(over="ignore"):
        scores = scores.astype(np.float32, copy=False)
    if not np.isfinite(scores).all():
        raise ArmError("rank returned a score that is not a finite number.")
    for source in set(sources):
        if not isinstance(source, str) or not 0 < len(source) <= MOST_SOURCE or not source.isprintable():
            raise ArmError(f"rank returned a source that is not a word of at most {MOST_SOURCE} characters: {source!r:.80}.")
    return Ranking(articles.astype(np.int32, copy=False), scores, tuple(sources))


def contained(call: Callable[[], T]) -> T:
    """Return what code of an arm answers; what would end a thread or a process (``SystemExit``, a Rust panic) is an :class:`ArmError`."""
    try:
        return call()
    except Exception:  # whoever called counts and tells it
        raise
    except BaseException as error:
        raise ArmError(f"it raised {said(error)}.") from error


def said(error: BaseException) -> str:
    """Return what an arm raised, as text that can be stored; its own words may raise as well.

    Examples
    --------
    >>> said(ValueError("no vectors"))
    'ValueError: no vectors'
    """
    try:
        words = error.what if isinstance(error, PresslabError) else f"{type(error).__name__}: {error}".rstrip(": ")
    except BaseException as another:
        words = f"{type(error).__name__}, and {type(another).__name__} when asked for its words"
    return words.encode("utf-8", "replace").decode()


def within(seconds: float, call: Callable[[], T], *, doing: str) -> T:
    """Return what code of an arm answers on a thread of its own, which nobody waits for at the end of the process.

    Raises
    ------
    LateError
        It takes longer than ``seconds``.
    ArmError
        It raises what is no ``Exception``; what else it raises comes as it is.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(contained(call))
        except Exception as error:  # whoever waits is told
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True, name="arm aside").start()
    try:
        return answer.result(timeout=seconds)
    except Exception as error:
        if timed_out(error, answer):
            raise LateError(f"{doing} takes longer than {seconds:g} s.") from None
        raise


def timed_out(error: Exception, answer: Future[Any]) -> bool:
    """Whether waiting for an answer ended before it was there; a call may raise a ``TimeoutError`` of its own."""
    return isinstance(error, TimeoutError) and not (answer.done() and answer.exception() is error)
