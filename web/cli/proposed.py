"""What a proposal of an arm rests on: passed gates, a version, its file, and later its shadow."""

from __future__ import annotations

from hashlib import sha256
from inspect import getsourcefile
from pathlib import Path
from typing import Any

from experiments.errors import ArmError
from experiments.ladder import Ladder
from experiments.serving.artefacts import current
from experiments.serving.recommender import arm_class
from web.climbing import shadow_faults
from web.standing import last_gates

__all__ = ["checked", "code_of", "may_be_shown"]


def checked(home: Path, name: str) -> str:
    """Return the version of the arm that would be shown; raises :class:`ArmError` while a gate fails or nothing is trained."""
    kind: Any = arm_class(name)
    gates = last_gates(home, name)
    if gates is None:
        raise ArmError(f"arm '{name}' has not been checked here.", f"Run `presslab arm check {name}`.")
    if not gates["passed"]:
        faults = [f"gate {g['number']}, {g['name']}: {g['reason'] or g['figure']}" for g in gates["gates"] if not g["passed"]]
        raise ArmError(
            f"arm '{name}' has not passed its gates (run {gates['run']}); mend it and run `presslab arm check {name}`:", faults=faults
        )
    pointer = current(home, name)
    if pointer is None and hasattr(kind, "load"):
        raise ArmError(f"no version of '{name}' is trained.", f"Run `presslab model train {name}`.")
    return pointer.version if pointer else ""


def code_of(name: str) -> str:
    """Return the sha256 of the file an arm is written in."""
    return sha256(Path(getsourcefile(arm_class(name)) or "").read_bytes()).hexdigest()


def may_be_shown(home: Path, ladder: Ladder) -> None:
    """Raise :class:`ArmError` when a gate fails by now, the arm's file is not the one that was proposed, or its shadow is not passed."""
    checked(home, ladder.arm)
    if ladder.code and ladder.code != code_of(ladder.arm):
        raise ArmError(
            f"the file of '{ladder.arm}' was changed after proposal {ladder.proposal}.",
            f"Check it and ship it again: presslab arm check {ladder.arm}; presslab arm ship {ladder.arm} --experiment {ladder.experiment}",
        )
    if faults := shadow_faults(home, ladder):
        raise ArmError(*faults)
