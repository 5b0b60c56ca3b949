"""spotify-confidence on our simulated readers: its z-test of shares and means, and its group-sequential bounds."""

import importlib.metadata
import warnings

import numpy as np
import pandas as pd
from exchange import FIRST, PARTS, answer

warnings.simplefilter("ignore")
import spotify_confidence as confidence  # noqa: E402

COLUMNS = ["run", "group", "sum", "squares", "readers"]
WHO = {"level_1": "control", "level_2": "treated"}
INPUT = {"numerator_column": "sum", "numerator_sum_squares_column": "squares", "denominator_column": "readers"}
Z = 1.959964
CHUNK = 200
MOST_RUNS = 1_000  # it takes 14 ms for one


def frame(tables, look, runs):
    rows = [(run, arm, t[run, look, 1], t[run, look, 3], t[run, look, 0]) for arm, t in tables.items() for run in runs]
    return pd.DataFrame(rows, columns=COLUMNS)


def ranges(tables, look, *, absolute):
    """Its ordinary range, all runs of a look in one table as its documentation groups countries or days."""
    found = []
    for start in range(0, len(tables["control"]), CHUNK):
        runs = range(start, min(start + CHUNK, len(tables["control"])))
        test = confidence.ZTest(frame(tables, look, runs), categorical_group_columns=["group", "run"], **INPUT)
        difference = test.difference(**WHO, groupby="run", absolute=absolute).sort_values("run")
        found.append(difference[["difference", "ci_lower", "ci_upper", "p-value"]].to_numpy(float))
    return np.concatenate(found)


def bounds(tables, looks):
    """Standard errors at every look; they follow from the numbers of readers alone, so one run is asked."""
    rows = pd.concat([frame(tables, look, [0]).assign(look=look) for look in looks])
    rows["final"] = tables["control"][0, -1, 0] + tables["treated"][0, -1, 0]
    test = confidence.ZTest(rows, categorical_group_columns="group", ordinal_group_column="look", **INPUT)
    found = test.difference(**WHO, groupby="look", final_expected_sample_size_column="final").sort_values("look")
    return Z * ((found["adjusted ci_upper"] - found["difference"]) / (found["ci_upper"] - found["difference"])).to_numpy(float)


def analyse(chosen, treated, control):
    if not (chosen["zero_or_one"] or chosen["mean"]):
        return "has no ratio of two sums per reader"
    tables = {"treated": treated, "control": control}
    if chosen["looks"] == 1:
        return {part: ranges(tables, 0, absolute=part == "absolute")[:, None, :] for part in PARTS}
    if not chosen["planned"]:
        return "has no test without a planned end"
    looks = [look for look in range(chosen["looks"]) if control[0, look, 0] >= FIRST]
    found = {part: np.full((*treated.shape[:2], 4), np.nan) for part in PARTS}
    for look, bound in zip(looks, bounds(tables, looks), strict=True):
        for part in PARTS:
            line = ranges(tables, look, absolute=part == "absolute")
            half = (line[:, 2] - line[:, 0]) / Z * bound
            found[part][:, look] = np.stack([line[:, 0], line[:, 0] - half, line[:, 0] + half, line[:, 3]], axis=1)
    return found


def cases():
    line = ranges({arm: np.array([[[1000, x, 1000, x]]]) for arm, x in (("control", 0), ("treated", 30))}, 0, absolute=True)[0]
    return {"nobody": "{:.3f} ({:.4f} to {:.4f}), p = {:.1e}".format(*line)}


if __name__ == "__main__":
    answer(importlib.metadata.version("spotify-confidence"), analyse, cases(), MOST_RUNS)
