"""What people must know about an arm before readers see it: the card, from the code, the bundle and the author's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["AUTHORS", "model_card", "unfilled"]

AUTHORS = ("limits", "cost", "owner", "retrain")  # what only the author can say, in the class attribute ``card``
CONSENT = {
    "agreed": "readers who agreed to personal choice; their own reads are used",
    "all": "none needed: the article on screen and figures about all readers",
}


def model_card(kind: Any, about: Mapping[str, Any] | None, slices: str = "") -> dict[str, str]:
    """Return the ten fields of an arm's card; an empty one is still to be filled in.

    Parameters
    ----------
    kind : the arm's class. about : manifest of the bundle, or None for a rule. slices : results by group of readers.
    """
    own: Mapping[str, str] = getattr(kind, "card", {})
    about = about or {}
    parameters: Mapping[str, Any] = about.get("parameters", {})
    window = parameters.get("window_h")
    found = {
        "purpose": (kind.__doc__ or "").strip().splitlines()[0] if kind.__doc__ else "",
        "data window": f"the last {window:g} h before training" if window else "reads of the last 120 h, through the signals",
        "consent basis": CONSENT.get(kind.audience, ""),
        "features": ", ".join(about.get("features", ())) or "the open article, the signals" + (", own reads" if kind.audience == "agreed" else ""),
        "parameters": ", ".join(f"{name} {value}" for name, value in sorted(parameters.items())) or f"constants in {kind.__module__}",
        "slices": slices,
    }  # fmt: skip
    return {**found, **{name: str(own.get(name, "")).strip() for name in AUTHORS}, **{k: v for k, v in own.items() if k in found and v}}


def unfilled(card: Mapping[str, str]) -> list[str]:
    """Return the names of empty fields.

    Examples
    --------
    >>> unfilled({"owner": "newsroom", "cost": " "})
    ['cost']
    """
    return [name for name, words in card.items() if not words.strip()]
