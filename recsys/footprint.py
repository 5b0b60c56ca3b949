"""How much memory a process takes that serves one arm: ``python -m recsys.footprint ARM --home H [--bundle PATH]`` prints megabytes."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.content import load_catalogue
from experiments.errors import ArmError
from experiments.serving.artefacts import read_bundle
from experiments.serving.publish import current_signals, read_signals
from experiments.serving.recommender import Context, arm_class
from experiments.serving.signals import Signals
from experiments.serving.slate import build_slate, pool_at

__all__ = ["footprint_mb", "main"]

ASKED = 100


def footprint_mb(arm: str, home: Path, bundle: Path | None) -> float:
    """Return the peak memory of a fresh process that loads the site, the arm and answers a hundred requests, megabytes.

    Raises
    ------
    ArmError
        The process failed; its last line says why.
    """
    command = [sys.executable, "-m", "recsys.footprint", arm, "--home", str(home), *(["--bundle", str(bundle)] if bundle else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ArmError(f"arm '{arm}' cannot be loaded in a process of its own: {said}")
    return float(done.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Load, answer, print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="recsys.footprint", description="Memory of a process that serves one arm.")
    parser.add_argument("arm")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    given = parser.parse_args(argv)
    kind: Any = arm_class(given.arm)
    catalogue, pointer = load_catalogue(given.home), current_signals(given.home)
    fits = pointer is not None and pointer["catalogue"] == catalogue.version
    at = float(pointer["at"]) if pointer is not None and fits else float(catalogue.published.max(initial=0.0))
    signals = read_signals(given.home, catalogue, pointer["version"]) if pointer is not None and fits else Signals.empty(catalogue, at)
    arm = kind.load(*read_bundle(given.bundle), catalogue) if given.bundle else kind()
    pool = pool_at(catalogue, at)
    for article in pool[:ASKED].tolist():
        asked = Context(at, article, tuple(pool[:20].tolist()), signals, pool[pool != article])
        build_slate(arm.rank(asked), asked)
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
