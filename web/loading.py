"""Arms as a process builds them: each by itself, so that what one raises, or a load that never ends, costs no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from experiments.errors import ArmError, PresslabError
from experiments.serving.answers import LateError, said, within
from experiments.serving.artefacts import Pointer, current, read_bundle
from experiments.serving.recommender import Catalogue, Recommender

__all__ = ["Loading", "told"]

LOAD_S = 20.0
T = TypeVar("T")


def told(error: Exception) -> str:
    """Return an error as a sentence, with what to do about it where it says so."""
    return (str(error) if isinstance(error, PresslabError) else said(error)).rstrip(".") + "."


@dataclass(slots=True)
class Loading:
    """Arms over one catalogue, on their way to requests.

    Parameters
    ----------
    arms, bundles : what is built already, over the same positions, and the versions of the models among them.
    given_up : ``arm/version`` of what did not end within 20 s; it is not tried again, since it cannot be stopped either.
    faults : in words, what could not be built and what serves instead.
    """

    home: Path
    catalogue: Catalogue
    arms: dict[str, Recommender]
    bundles: dict[str, str]
    given_up: frozenset[str] = frozenset()
    faults: dict[str, str] = field(default_factory=dict)

    def build(self, classes: Mapping[str, Any], *, served: Mapping[str, str]) -> None:
        """Build what is missing or has another version; ``served`` are the versions that readers had until now."""
        for name, kind in classes.items():
            if hasattr(kind, "load"):
                self._model(name, kind, served.get(name, ""))
            elif name not in self.arms:
                try:
                    self.arms[name] = self._within(f"{name}/", kind)
                except Exception as error:  # an arm is foreign code
                    self.faults[f"heuristic {name}"] = f"{told(error)} Its readers get the fallback."

    def _model(self, name: str, kind: Any, served: str) -> None:
        """Load the version in force; when it cannot be, the one that serves stays, else the last good one on disk serves."""
        pointer: Pointer | None = None
        try:
            pointer = current(self.home, name)
            if pointer is not None and pointer.version != self.bundles.get(name):
                self._take(name, kind, pointer.version, pointer.sha256)
        except Exception as error:  # an arm is foreign code, and a disk may return anything
            for version in () if name in self.arms else pointer.previous if pointer else (served,):
                with suppress(Exception):
                    self._take(name, kind, version, None)
                    break
            now = f"Version {self.bundles[name]} serves." if name in self.bundles else "Its readers get the fallback."
            self.faults[f"model {name}"] = f"{told(error)} {now}"

    def _take(self, name: str, kind: Any, version: str, sha256: str | None) -> None:
        arrays, manifest = read_bundle(self.home / "models" / name / version, sha256=sha256)
        self.arms[name] = self._within(f"{name}/{version}", lambda: kind.load(arrays, manifest, self.catalogue))
        self.bundles[name] = version

    def _within(self, key: str, make: Callable[[], T]) -> T:
        if key in self.given_up:
            hint = "Publish another version, or mend its code and restart the site."
            raise ArmError(f"its load took longer than {LOAD_S:g} s and was given up.", hint)
        try:
            return within(LOAD_S, make, doing="its load")
        except LateError:
            self.given_up |= {key}
            raise
