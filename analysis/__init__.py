"""Statistics of tests on readers; for notebooks: ``from analysis import analyse, wanted``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.notebook import analyse
    from analysis.own.data import Analysis
    from analysis.own.plan import Wanted, wanted

__all__ = ["Analysis", "Wanted", "analyse", "wanted"]

HOME = {"Analysis": "analysis.own.data", "analyse": "analysis.notebook", "Wanted": "analysis.own.plan", "wanted": "analysis.own.plan"}


def __getattr__(name: str) -> Any:  # PEP 562: who imports one module of this folder loads no other
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(HOME[name]), name)
