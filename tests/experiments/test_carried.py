"""Signals carried over to the next catalogue say of the articles there were what signals computed on it would say."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.serving.carried import carried
from experiments.serving.reads import Reads
from experiments.serving.recommender import Catalogue
from experiments.serving.signals import SignalRules, Signals, Texts, build_signals, signals_to_arrays, with_texts
from tests.conftest import NOW, article

AT = NOW.timestamp()
RULES = SignalRules(co_read_sessions=2)


def signals_of(catalogue: Catalogue, identities: np.ndarray, seed: int) -> Signals:
    rng = np.random.default_rng(seed)
    read = rng.choice(identities, 3_000, p=rng.dirichlet(np.full(len(identities), 0.3)))
    at = np.sort(AT - rng.exponential(20 * 3_600.0, 3_000))
    session = np.sort(rng.integers(0, 900, 3_000))
    levels = rng.integers(0, 3, (3_000, 2))
    position = np.array([catalogue.positions[f"a{identity:03d}"] for identity in read.tolist()], np.int32)
    reads = Reads(session // 2, session, position, at, levels)
    said = np.array(sorted(catalogue.positions[f"a{identity:03d}"] for identity in identities[::2].tolist()), np.int32)
    texts = Texts(said, rng.normal(size=(len(said), 4)).astype(np.float32), np.full(len(said), -1, np.int32))
    return with_texts(build_signals(reads, catalogue, at=AT, rules=RULES), texts)


@pytest.mark.parametrize("seed", range(10))
def test_all_that_reads_say_is_the_same_as_if_it_were_computed_anew(seed: int) -> None:
    rng = np.random.default_rng(seed)
    identities = rng.choice(200, 60, replace=False)
    before = Catalogue([article(i) for i in identities.tolist()])
    after = Catalogue([article(i) for i in {*identities.tolist(), *rng.choice(200, 40).tolist()}] + [article(500, section="a new section")])
    assert len(after) > len(before)
    moved, anew = (
        signals_to_arrays(x) for x in (carried(signals_of(before, identities, seed), after), signals_of(after, identities, seed))
    )
    assert len(moved["near_articles"]) > 100
    assert len(moved["by_level_articles"]) > 10
    for name in moved.keys() - {"typical"}:  # medians of sections: new articles count only once they have had time
        np.testing.assert_array_equal(moved[name], anew[name], err_msg=name)


def test_what_is_typical_of_a_section_goes_with_its_name_and_a_new_one_gets_the_least() -> None:
    before = Catalogue([article(i) for i in range(60)])
    signals = signals_of(before, np.arange(60), 1)
    after = carried(signals, Catalogue([*before.articles, article(500, section="a new section")]))
    assert after.catalogue.sections == ("a new section", "s0", "s1", "s2", "s3")
    np.testing.assert_array_equal(after.typical, np.array([signals.typical.min(), *signals.typical]))


def test_without_one_of_the_former_articles_nothing_is_carried() -> None:
    before = Catalogue([article(i) for i in range(60)])
    after = carried(signals_of(before, np.arange(60), 1), Catalogue(before.articles[1:]))
    assert not after.heat.any()
    assert after.at == AT
