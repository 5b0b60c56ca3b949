"""The file a new arm starts from: it runs, keeps the contract at once, and has one place to change."""

from __future__ import annotations

import importlib
import keyword
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from experiments.errors import ConfigError
from experiments.serving.recommender import discover

__all__ = ["write_arm"]

FOLDERS = {"heuristic": "heuristics", "model": "recsys.arms"}

HEURISTIC = '''"""{name}: say in one sentence what it shows first, and why."""

from collections.abc import Mapping
from typing import ClassVar

from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Context, Ranking, register


@register
class {title}:
    """Ranks by reads of the last hour; write here what yours does."""

    name = "{name}"
    kind: Kind = "heuristic"
    audience: Audience = "all"  # "agreed" as soon as it looks at context.reads
    card: ClassVar[Mapping[str, str]] = {{"limits": "", "cost": "", "owner": "", "retrain": ""}}  # presslab arm check asks for these

    def rank(self, context: Context) -> Ranking:
        """Return articles of context.pool, best first; reads_in holds the last 0.5, 1, 3, 24 and 120 hours."""
        return Ranking.best_first(context.pool, context.signals.reads_in[1][context.pool], "heat")
'''

MODEL = '''"""{name}: say in one sentence what it learns, and from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from experiments.experiment import Audience, Kind
from experiments.serving.recommender import Catalogue, Context, Ranking, register
from experiments.serving.signals import HOUR


@register
class {title}:
    """Ranks by reads of the last three days, learned once per training; write here what yours does."""

    name = "{name}"
    kind: Kind = "model"
    audience: Audience = "all"  # "agreed" as soon as it looks at context.reads
    trainer = __name__  # the module that holds Trainer
    card: ClassVar[Mapping[str, str]] = {{"limits": "", "cost": "", "owner": "", "retrain": ""}}  # presslab arm check asks for these

    def __init__(self, weights: Any, version: str) -> None:
        self.weights, self.version = weights, version

    @classmethod
    def load(cls, arrays: Mapping[str, Any], manifest: Mapping[str, Any], catalogue: Catalogue) -> {title}:
        """Spread what was learned over today's articles; those that are newer have nothing yet."""
        weights = np.zeros(len(catalogue))
        for identity, weight in zip(manifest["ids"], arrays["weights"], strict=True):
            if identity in catalogue.positions:
                weights[catalogue.positions[identity]] = weight
        return cls(weights, str(manifest.get("version", "")))

    def rank(self, context: Context) -> Ranking:
        """Return articles of context.pool, best first."""
        return Ranking.best_first(context.pool, self.weights[context.pool], "heat")


class Trainer:
    """Learns from reads before a moment; what it returns is all that ``load`` gets."""

    ablations: ClassVar[Mapping[str, tuple[str, ...]]] = {{}}  # name -> features to leave out

    def __init__(self, reads: Any, site: Any, until: float, seed: int) -> None:  # noqa: ARG002
        self.reads, self.ids = reads, list(site.catalogue.ids)

    def fit(self, until: float, without: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ARG002
        """Return arrays (numbers only) and what the manifest says about them."""
        recent = self.reads.before(until, until - 72 * HOUR)
        weights = np.bincount(recent.article, minlength=len(self.ids)).astype(np.float64)
        return {{"weights": weights}}, {{"ids": self.ids, "parameters": {{"window_h": 72.0}}, "rows": {{"reads": len(recent)}}}}
'''

ENTRIES = '[project.entry-points."presslab.arms"]'
PACKAGE = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "presslab-{dashed}"
version = "0.1.0"
dependencies = ["presslab"]

[project.entry-points."presslab.arms"]
{name} = "{name}"

[tool.hatch.build.targets.wheel]
only-include = ["{name}.py"]
"""


def write_arm(name: str, kind: Literal["heuristic", "model"], into: Path | None = None) -> Path:
    """Write the file of a new arm; returns its path.

    Parameters
    ----------
    into : a folder for a small package of its own (with its ``pyproject.toml``); None writes into this checkout.

    Raises
    ------
    ConfigError
        The name is taken or cannot name a module, this is an installation and not a checkout, or the folder's package declares no arms.
    """
    if not name.isidentifier() or name != name.lower() or name.startswith("_") or keyword.iskeyword(name):
        raise ConfigError(f"an arm cannot be called '{name}'.", "Use small letters, digits and _, for example spring_tide.")
    if name in discover():
        raise ConfigError(f"there is already an arm called '{name}'.", "See `presslab arm list` and choose another name.")
    folder = into or _checkout(FOLDERS[kind])
    path = folder / f"{name}.py"
    if path.exists():
        raise ConfigError(f"{path} is there already.", "Choose another name, or remove it.")
    if into is not None and find_spec(name) is not None:
        raise ConfigError(f"Python has a module called '{name}' already.", "Choose another name: import would find only one of the two.")
    project = folder / "pyproject.toml"
    package = _declared(project, name) if into is not None else ""
    folder.mkdir(parents=True, exist_ok=True)
    title = "".join(word.capitalize() for word in name.split("_"))
    path.write_text((HEURISTIC if kind == "heuristic" else MODEL).format(name=name, title=title))
    if into is not None:
        project.write_text(package)
    return path


def _declared(project: Path, name: str) -> str:
    """The ``pyproject.toml`` that makes the arm known, beside those of the folder that are known already."""
    if not project.exists():
        return PACKAGE.format(name=name, dashed=name.replace("_", "-"))
    written = project.read_text()
    if ENTRIES not in written:
        raise ConfigError(f"{project} has no table {ENTRIES}.", "Add it, or give another folder.")
    written = written.replace(f"{ENTRIES}\n", f'{ENTRIES}\n{name} = "{name}"\n', 1)
    return written.replace("only-include = [", f'only-include = ["{name}.py", ', 1)


def _checkout(package: str) -> Path:
    folder = Path(next(iter(importlib.import_module(package).__path__)))
    if not any((parent / "pyproject.toml").exists() for parent in folder.parents[:2]):
        raise ConfigError(f"{folder} belongs to an installation, not to a checkout.", "Give --into FOLDER for a small package of your own.")
    return folder
