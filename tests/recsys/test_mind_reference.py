"""MIND as a reference: how far click rates of the past alone order what an impression shows."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import numpy as np
import pytest
from scipy.stats import rankdata

from recsys.importers.mind import FORMAT
from tests.recsys.test_importers import needs

PRIOR = 10  # showings at the mean rate, added to every article


@pytest.mark.long
def test_smoothed_click_rates_of_the_past_reach_the_documented_auc() -> None:
    lines = needs("mind_subset/behaviors.tsv").read_text("utf-8").splitlines()
    rows = sorted(
        (datetime.strptime(cells[2], FORMAT), number, cells[4].split()) for number, cells in enumerate(line.split("\t") for line in lines)
    )
    shown, clicked, areas = Counter[str](), Counter[str](), []
    for _, _, words in rows:
        ids, hit = [word[:-2] for word in words], np.array([word.endswith("-1") for word in words])
        mean = clicked.total() / max(shown.total(), 1)
        place = rankdata([(clicked[i] + PRIOR * mean) / (shown[i] + PRIOR) for i in ids])
        n = int(hit.sum())
        areas.append((place[hit].sum() - n * (n + 1) / 2) / (n * (len(ids) - n)))
        shown.update(ids)
        clicked.update(i for i, h in zip(ids, hit, strict=True) if h)
    assert len(areas) == 5_000
    assert np.mean(areas) == pytest.approx(0.619, abs=0.001)
