"""What a peer's script needs of us: nothing but numpy, so that it runs in the peer's own environment.

Usage: PYTHON SCRIPT DATA.npz ANSWER.npz SAYS.json. DATA holds ``sets`` (a JSON list) and, per set, ``NUMBER/null/treated`` and
so on as (runs, looks, 1 + k + k k): readers, k sums, k x k sums of products, of all readers so far.
"""

import json
import math
import sys

import numpy as np

NOTHING = (math.nan,) * 4
PARTS = ("absolute", "relative")
FIRST = 100  # readers per arm from whom on a test that is looked at again and again is looked at


def answer(version, analyse, cases, most_runs=None):
    """Ask ``analyse(set, treated, control)`` for {part: (runs, looks, 4)}, or for a sentence why there is nothing.

    ``most_runs`` limits how many runs a slow tool is asked about; a quarter of them where one looks often.
    """
    data, found, refused = np.load(sys.argv[1]), {}, {}
    for number, chosen in enumerate(json.loads(str(data["sets"]))):
        for which in ("null", "effect"):
            arms = [data[f"{number}/{which}/{arm}"] for arm in ("treated", "control")]
            limit = len(arms[0]) if most_runs is None else max(1, most_runs // (4 if chosen["looks"] > 1 else 1))
            says = analyse(chosen, *(arm[:limit] for arm in arms))
            if isinstance(says, str):
                refused[str(number)] = says
            else:
                found |= {f"{number}/{which}/{part}": table for part, table in says.items()}
    np.savez(sys.argv[2], **found)
    with open(sys.argv[3], "w") as file:
        json.dump({"version": version, "refused": refused, "cases": cases}, file)


def one_by_one(chosen, judge, treated, control):
    """Call ``judge(treated, control)``, which gives a line per part, for every run and look; the arms are as in :func:`side`."""
    found = np.full((*treated.shape[:2], 2, 4), np.nan)
    for run, look in np.ndindex(found.shape[:2]):
        one, two = (side(table[run, look], chosen["columns"]) for table in (treated, control))
        if chosen["looks"] == 1 or min(one["n"], two["n"]) >= FIRST:
            found[run, look] = judge(one, two)
    return {part: found[:, :, i] for i, part in enumerate(PARTS)}


def side(row, columns):
    """One arm as a dict: ``n``, ``sums`` per column, ``products`` per pair of columns."""
    k = len(columns)
    sums = {c: float(row[1 + i]) for i, c in enumerate(columns)}
    products = {(a, b): float(row[1 + k + i * k + j]) for i, a in enumerate(columns) for j, b in enumerate(columns)}
    return {"n": int(row[0]), "sums": sums, "products": products}


def plain(n, total):
    """An arm of ``n`` readers of whom ``total`` did it."""
    return {"n": n, "sums": {"numerator": total}, "products": {("numerator", "numerator"): total}}
