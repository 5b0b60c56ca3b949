"""What an arm must do, and what it is given: the serving contract.

An arm ranks; it never decides what may be shown. One slate builder (:mod:`experiments.serving.slate`) turns any
ranking into what the reader sees, offline, in shadow and online.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from experiments.errors import ArmError, nearest
from experiments.experiment import Audience, Kind

__all__ = [
    *("Article", "Catalogue", "Context", "Explainable", "Ranking", "Recommender", "Trainable"),
    *("arm_class", "broken_arms", "discover", "register"),
]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Derived = TypeVar("Derived")


@dataclass(frozen=True, slots=True)
class Article:
    """One published article; ``body`` is Markdown, ``published_at`` an aware UTC time."""

    id: str
    title: str
    dek: str
    body: str
    section: str
    author: str
    published_at: datetime
    tags: tuple[str, ...] = ()
    story: str = ""
    evergreen: bool = False
    withdrawn: bool = False
    language: str = "en"
    imported: bool = False


class Catalogue:
    """All articles in a fixed order, so that arrays can speak of them by position.

    Attributes
    ----------
    articles : tuple of :class:`Article`, sorted by id.
    ids : tuple of str, the same order.
    published : (n,) float64, unix seconds.
    newest_last : (n,) int32, positions in order of publication (of one moment: the later position first); published_in_order : (n,)
        the times in that order. With them a request looks at the articles of its window, not at all of them.
    section : (n,) int32, codes into ``sections``.
    evergreen, withdrawn : (n,) bool. lasting : (m,) int32, evergreens that are not withdrawn.
    version : short hash of ids, publication times and sections; bundles and signals carry it.

    Examples
    --------
    >>> from datetime import UTC
    >>> a = Article("a", "A", "", "", "city", "x", datetime(2026, 1, 1, tzinfo=UTC))
    >>> Catalogue([a]).position("a")
    0
    """

    def __init__(self, articles: Sequence[Article]) -> None:
        self.articles = tuple(sorted(articles, key=lambda article: article.id))
        self.ids = tuple(article.id for article in self.articles)
        self.positions = {identity: i for i, identity in enumerate(self.ids)}
        self.published = np.array([a.published_at.timestamp() for a in self.articles], dtype=np.float64)
        self.newest_last = np.lexsort((-np.arange(len(self.articles)), self.published)).astype(np.int32)
        self.published_in_order = self.published[self.newest_last]
        self.sections = tuple(sorted({a.section for a in self.articles}))
        code = {name: i for i, name in enumerate(self.sections)}
        self.section = np.array([code[a.section] for a in self.articles], dtype=np.int32)
        self.evergreen = np.array([a.evergreen for a in self.articles], dtype=bool)
        self.withdrawn = np.array([a.withdrawn for a in self.articles], dtype=bool)
        self.lasting = np.flatnonzero(self.evergreen & ~self.withdrawn).astype(np.int32)
        self.version = _short_hash(self.ids, self.published, self.sections, self.section)
        self._derived: dict[Callable[..., Any], tuple[tuple[Any, ...], Any]] = {}
        times, flags = (self.published, self.newest_last, self.published_in_order), (self.evergreen, self.withdrawn, self.lasting)
        for array in (*times, *flags, self.section):
            array.flags.writeable = False  # shared by all requests

    def __len__(self) -> int:
        return len(self.articles)

    def position(self, identity: str) -> int | None:
        """Return the position of an article, or None for an unknown id."""
        return self.positions.get(identity)

    def derived(self, make: Callable[..., Derived], *of: Any) -> Derived:
        """Return ``make(self, *of)``, kept until it is asked for of something else; what is derived goes with its catalogue.

        A cache of a module would keep catalogues that were replaced long ago, with every article.
        """
        kept = self._derived.get(make)
        if kept is None or kept[0] != of:
            kept = self._derived[make] = (of, make(self, *of))
        found: Derived = kept[1]
        return found

    def known(self, identities: Sequence[str]) -> Ints:
        """Return the positions of the known ids, in the given order; unknown ids are dropped."""
        found = (self.positions.get(identity) for identity in identities)
        return np.array([p for p in found if p is not None], dtype=np.int32)


def _short_hash(ids: Sequence[str], published: npt.NDArray[np.float64], sections: Sequence[str], section: Ints) -> str:
    from hashlib import blake2b

    digest = blake2b("\n".join((*ids, "", *sections)).encode(), digest_size=8)
    digest.update(published.tobytes() + section.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Context:
    """What an arm may know about a request.

    Parameters
    ----------
    at : unix seconds of the request.
    article : position of the open article in the catalogue, or None.
    reads : the last 20 articles this reader read, oldest first, without the open one; **empty unless the reader agreed** to personal choice.
    signals : the :class:`experiments.serving.signals.Signals` snapshot of this request (it holds the catalogue).
    pool : (m,) int32, positions that may be shown: published, fresh or evergreen, not withdrawn, neither open nor among ``reads``.
    n : how many places the slot has.
    seed : of this slate; the only source of chance an arm may use.
    session_position : how many article views this session had before this one.
    tired : positions this reader had on screen three times lately without opening them; the slate leaves them out, pins excepted.
    levels : device and referrer of this page view (:func:`experiments.serving.level_shares.level`); **empty unless the reader agreed**.
    """

    at: float
    article: int | None
    reads: tuple[int, ...]
    signals: Any
    pool: Ints
    n: int = 6
    seed: int = 0
    session_position: int = 0
    tired: tuple[int, ...] = ()
    levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.pool.flags.writeable = False  # the slate trusts it, after the arm had it in hand


@dataclass(frozen=True, slots=True)
class Ranking:
    """Articles best first, with their scores and where each came from.

    Parameters
    ----------
    articles : (k,) int32 positions, distinct, taken from ``context.pool``.
    scores : (k,) float32, not increasing, higher is better.
    sources : k short words (``heat``, ``co_read``, ``als``, ``newest``, ``text``): what placed the article.
    """

    articles: Ints
    scores: Floats
    sources: tuple[str, ...]

    @classmethod
    def empty(cls) -> Ranking:
        return cls(np.zeros(0, np.int32), np.zeros(0, np.float32), ())

    @classmethod
    def best_first(
        cls, articles: npt.ArrayLike, scores: npt.ArrayLike, source: str | Sequence[str], *, published: npt.ArrayLike = 0.0, most: int = 150
    ) -> Ranking:
        """Sort by score and keep the ``most`` best; of equal scores the latest ``published`` comes first, else the first of the catalogue.

        Examples
        --------
        >>> Ranking.best_first([3, 5], [0.1, 0.9], "heat").articles.tolist()
        [5, 3]
        """
        positions, values = np.asarray(articles, np.int32), np.asarray(scores, np.float32)
        among, cost = np.arange(len(values)), -values  # missing scores come last, in sorting and in cutting
        if len(values) > most:  # sorting a whole pool takes four times as long
            among = np.flatnonzero(~(cost > np.partition(cost, most - 1)[most - 1]))
        latest = -np.broadcast_to(np.asarray(published, np.float64), positions.shape)[among]
        order = among[np.lexsort((positions[among], latest, cost[among]))[:most]]
        sources = (source,) * len(order) if isinstance(source, str) else tuple([source[i] for i in order.tolist()])
        return cls(positions[order], values[order], sources)


@runtime_checkable
class Recommender(Protocol):
    """An arm. ``name`` is unique, ``kind`` and ``audience`` as in :class:`experiments.Arm`."""

    name: str
    kind: Kind
    audience: Audience

    def rank(self, context: Context) -> Ranking:
        """Return a ranking of articles of ``context.pool``; may be empty; must not change its input."""
        ...


@runtime_checkable
class Explainable(Protocol):
    """An arm that can say which reads placed an article."""

    def explain(self, context: Context, article: int) -> list[tuple[int, float]]:
        """Return (read article, contribution) pairs, largest first; contributions add up to the served score."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A model arm: built from published arrays, trained elsewhere (``recsys.training``)."""

    name: str
    version: str

    @classmethod
    def load(cls, arrays: Mapping[str, npt.NDArray[Any]], manifest: Mapping[str, Any], catalogue: Catalogue) -> Recommender:
        """Return a ready arm; raises :class:`ArtefactError` when arrays and manifest do not fit the catalogue."""
        ...


@dataclass(slots=True)
class _Registry:
    classes: dict[str, type] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


_registry = _Registry()  # the one piece of module-level state (DESIGN rule 2)
T = TypeVar("T", bound=type)


def register(arm: T) -> T:
    """Class decorator: make an arm known under its ``name``."""
    name = getattr(arm, "name", "")
    known = _registry.classes.get(name)
    if not name:
        raise ArmError(f"{arm.__module__}.{arm.__qualname__} has no name.", "Give the class a `name`.")
    if known is not None and known.__module__ != arm.__module__:
        raise ArmError(f"two arms are called '{name}': {known.__module__} and {arm.__module__}.", "Rename one.")
    _registry.classes[name] = arm
    return arm


def discover() -> dict[str, type]:
    """Import every module of ``heuristics`` and ``recsys.arms`` and every entry point ``presslab.arms``.

    A module that cannot be imported is noted in :func:`broken_arms` and leaves the others alone: the baseline must
    run with the machine-learning stack absent or broken.
    """
    names = [f"{folder}.{module.name}" for folder in ("heuristics", "recsys.arms") for module in _modules(folder)]
    for name in names:
        _import(name, lambda name=name: importlib.import_module(name))
    for entry in entry_points(group="presslab.arms"):
        _import(entry.name, entry.load)
    return dict(sorted(_registry.classes.items()))


def _modules(folder: str) -> Sequence[Any]:
    try:
        package = importlib.import_module(folder)
    except (Exception, SystemExit) as error:
        _registry.broken[folder] = f"{type(error).__name__}: {error}"
        return []
    return list(pkgutil.iter_modules(package.__path__))


def _import(name: str, load: Any) -> None:
    try:
        load()
        _registry.broken.pop(name, None)
    except BaseException as error:  # a script that ends with sys.exit, too; counted and shown by doctor, jobs and the arms page
        if isinstance(error, KeyboardInterrupt):
            raise
        _registry.broken[name] = f"{type(error).__name__}: {error}"


def broken_arms() -> dict[str, str]:
    """Return module -> error for every arm module that could not be imported."""
    return dict(_registry.broken)


def arm_class(name: str) -> type:
    """Return the class of the arm called ``name``; raises :class:`ArmError` with the nearest names and what could not be loaded."""
    classes = discover()
    if name not in classes:
        broken = [f"{module} could not be loaded: {why}" for module, why in broken_arms().items()]
        hint = f"{'Mend what could not be loaded, or add' if broken else 'Add'} a module with @register to heuristics/ or recsys/arms/."
        raise ArmError(f"no arm is called '{name}'; {nearest(name, classes)}", hint, faults=broken)
    return classes[name]
