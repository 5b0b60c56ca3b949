"""A generated site of many articles with three arms, ready to be served."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from experiments.assignment import allocation, assign, reader_key
from experiments.content import add_articles
from experiments.experiment import Arm, Experiment
from experiments.lifecycle import Step, draft, publish_plan, start
from experiments.migrate import migrate
from experiments.serving.artefacts import publish, write_bundle
from experiments.serving.publish import publish_signals
from experiments.serving.recommender import Article, Catalogue
from experiments.serving.signals import HOUR, Reads, Texts, build_signals, with_texts
from experiments.tables import control_engine
from recsys.features import FEATURES, fingerprint
from tests.benchmarks.arms_peer import FACTORS
from tests.benchmarks.serving import page
from web.identity import Recent, choices_text, short_id
from web.keys import tokens_of
from web.site_protocol import Choices

FRESH, WITH_VECTOR, WORDS, READS, READERS = 1_900, 14_000, 128, 200_000, 60
ARMS = ("front", "als", "ranked")


@dataclass(frozen=True)
class ManyArticles:
    """A home with ``articles`` articles, of which ``FRESH`` may be shown."""

    home: Path
    articles: int

    def build(self, peer: Path) -> None:
        """Write everything; ``peer`` holds the trees."""
        now = datetime.now(UTC)
        at = now.timestamp()
        migrate(self.home)
        age_h = np.concatenate([np.linspace(9_000, 100, self.articles - FRESH), np.linspace(47, 0.1, FRESH)])
        made = [
            Article(f"{i:07d}", f"Article {i}", "A few words.", "Text.", f"s{i % 8}", "", datetime.fromtimestamp(at - h * HOUR, UTC))
            for i, h in enumerate(age_h.tolist())
        ]
        add_articles(self.home, made)
        catalogue = Catalogue(made)
        rng = np.random.default_rng(0)
        article = (self.articles - FRESH + rng.zipf(1.3, READS) % FRESH).astype(np.int32)
        session = np.arange(READS) // 4
        signals = build_signals(Reads(session, session, article, np.sort(at - rng.random(READS) * 72 * HOUR)), catalogue, at=at)
        words = rng.normal(size=(FRESH, WORDS)).astype(np.float32)
        words /= np.linalg.norm(words, axis=1, keepdims=True)
        positions = np.arange(self.articles - FRESH, self.articles, dtype=np.int32)
        publish_signals(self.home, with_texts(signals, Texts(positions, words, np.full(FRESH, -1, np.int32))))
        vectors = rng.normal(size=(WITH_VECTOR, FACTORS)).astype(np.float32)
        about = {"ids": list(catalogue.ids[-WITH_VECTOR:]), "parameters": {"alpha": 10.0, "regularization": 0.1, "recent_reads": 10.0}}
        trees = {"features": list(FEATURES), "fingerprint": fingerprint()}
        for arm, arrays, more in (("als", {}, {}), ("ranked", dict(np.load(peer / "trees.npz")), trees)):
            bundle = write_bundle(self.home / "models" / arm, {"vectors": vectors, **arrays}, {**about, **more, "arm": arm})
            publish(self.home, arm, bundle.version, at_us=round(at * 1e6))
        self._start(now)

    def _start(self, now: datetime) -> None:
        kinds = {"front": "heuristic", "als": "model", "ranked": "model"}
        arms = tuple(Arm(name, kinds[name], 1 / 3, "all" if name == "front" else "agreed") for name in ARMS)  # type: ignore[arg-type]
        engine, step = control_engine(self.home), Step("bench", now, "a benchmark")
        draft(engine, Experiment("bench", "How long does a slate take?", "front", arms), step)
        start(engine, "bench", step)
        publish_plan(self.home, engine, at=now)

    def requests(self) -> list[str]:
        """Article pages for readers of every arm who agreed and have six reads."""
        entry = json.loads((self.home / "plan" / "current.json").read_text())["body"]["experiments"][0]
        plan, tokens, rng = Experiment.from_dict(entry["plan"]), tokens_of(self.home), np.random.default_rng(1)
        shares = allocation(plan, entry["shares"], phase=entry["phase"])
        wanted = dict.fromkeys(ARMS, READERS)
        now_s, found = int(datetime.now(UTC).timestamp()), []
        for number in range(100_000):
            reader = f"{number:032x}"
            given = assign(shares, reader_key(reader))
            if given is None or not wanted[given.arm]:
                continue
            wanted[given.arm] -= 1
            reads = [f"{self.articles - FRESH + i:07d}" for i in rng.integers(0, FRESH, 6).tolist()]
            cookies = {
                "pl_id": tokens.sign("id", f"{reader}.{now_s}.l"),
                "pl_choice": tokens.sign("choice", choices_text(Choices(personal=True))),
                "pl_reads": tokens.sign("reads", Recent(tuple(short_id(a) for a in reads), now_s, 1).text()),
            }
            opened = f"{self.articles - 1 - int(rng.integers(0, FRESH)):07d}"
            found.append(page(f"/en/article/{opened}", "; ".join(f"{k}={v}" for k, v in cookies.items())))
            if not any(wanted.values()):
                return [found[i] for i in rng.permutation(len(found))]
        raise SystemExit("too few readers for some arm")
