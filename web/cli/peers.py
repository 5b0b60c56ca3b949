"""Other tools on the simulated readers of ``presslab calibrate``: each runs in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import ConfigError, DataError

__all__ = ["Peers", "beside_peers", "parse_peers"]

SCRIPTS = Path(__file__).parents[2] / "tests" / "peers"
OURS = "Presslab"
LAST_LINES = 5
OUR_CASES = {
    "one decision": "one data set, difference and relative change (STATISTICS 15, rows 1 to 3)",
    "nobody": "0 of 1,000 readers against 30 of 1,000: the difference",
    "offset": "the variance of 99,999,999, 100,000,000 and 100,000,001 (it is 1)",
    "early": "looking before the planned end",
}


@dataclass(frozen=True, slots=True)
class Peers:
    """What stands beside each other: per set its title and one line per tool; what was refused and where tools differ."""

    sets: Sequence[tuple[str, Sequence[tuple[str, Mapping[str, float | None]]]]]
    refused: Sequence[str]
    cases: Sequence[tuple[str, Mapping[str, str]]]


def parse_peers(given: Sequence[str]) -> dict[str, Path]:
    """Return the interpreter per tool, from ``NAME=PYTHON``.

    Raises
    ------
    ConfigError
        Not of that form, a tool without a script, or an interpreter that is not there.
    """
    found: dict[str, Path] = {}
    faults = []
    known = sorted(path.stem.removeprefix("peer_").replace("_", "-") for path in SCRIPTS.glob("peer_*.py"))
    for text in given:
        name, _, python = text.partition("=")
        if name not in known:
            faults.append(f"'{text}': the tools are {', '.join(known) or 'only in a checkout'}")
        elif not Path(python).is_file():
            faults.append(f"'{text}': there is no interpreter '{python}'")
        found[name] = Path(python)
    if faults:
        raise ConfigError("--peer cannot be used:", faults=faults, hint="Write NAME=PYTHON, with the interpreter of its environment.")
    return found


def beside_peers(peers: Mapping[str, Path], *, seed: int, runs: int) -> Peers:
    """Draw readers once, ask every tool about them, and judge all answers alike; a quarter of the ``runs`` where one looks often."""
    import numpy as np

    from analysis.calibration.peers import draw, our_cases, peer_sets, standing

    chosen, lines = peer_sets(), []
    tables: dict[str, Any] = {}
    for number, one in enumerate(chosen):
        sums, ours = draw(one, runs=max(1, runs // (4 if one.looks > 1 else 1)), seed=seed)
        tables |= {f"{number}/{key}": table for key, table in sums.items()}
        lines.append([(OURS, standing(one, ours))])
    refused: list[str] = []
    cases = {key: {OURS: said} for key, said in our_cases().items()}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        np.savez(data, sets=np.array(json.dumps([one.to_dict() for one in chosen])), **tables)
        for name, python in peers.items():
            answers, says = _ask(name, python, data)
            label = f"{name} {says['version']}"
            for number, one in enumerate(chosen):
                own = {key.partition("/")[2]: table for key, table in answers.items() if key.startswith(f"{number}/")}
                lines[number] += [(label, standing(one, own))] if own else []
            for why in dict.fromkeys(says["refused"].values()):
                titles = [chosen[int(number)].title for number, own in says["refused"].items() if own == why]
                refused.append(f"{name} {why}: {'; '.join(titles)}.")
            for key, said in says["cases"].items():
                cases[key][label] = said
    return Peers(
        [(one.title, found) for one, found in zip(chosen, lines, strict=True)], refused, [(OUR_CASES[k], v) for k, v in cases.items()]
    )


def _ask(name: str, python: Path, data: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    import numpy as np

    script = SCRIPTS / f"peer_{name.replace('-', '_')}.py"
    answer, says = data.with_name(f"{name}.npz"), data.with_name(f"{name}.json")
    ended = subprocess.run([python, script, data, answer, says], check=False, capture_output=True, text=True)
    if ended.returncode:
        how = f"killed by signal {-ended.returncode}" if ended.returncode < 0 else f"exit status {ended.returncode}"
        said = ended.stderr.strip().splitlines()[-LAST_LINES:] or ["it said nothing"]
        raise DataError(f"{name} did not answer: {how}. Its last lines:", f"Try it in its own environment with {script.name}.", said)
    with np.load(answer) as found:
        return dict(found), json.loads(says.read_text())
