"""A small newspaper behind the pages: real articles, real search, stored results; no experiment engine.

``python -m tests.web.preview`` serves it on port 5099, to look at the pages.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from flask import Flask, Request, Response, render_template
from werkzeug.exceptions import HTTPException

from experiments.errors import NotFoundError
from experiments.serving.recommender import Article, Catalogue
from tests.web import results
from web.guard import protect
from web.owner.pages import console
from web.reader.pages import reader
from web.reader.shelf import latest
from web.site_protocol import Choices, MostRead, PageView, SlotItem, SlotView, WhyView
from web.templating import TEMPLATES

NOW = datetime(2026, 11, 21, 14, 5, tzinfo=UTC)
NEWSPAPER = Path(__file__).parents[2] / "fixtures" / "newspaper"
HOSTILE = Article(
    "hostile", '<script>alert("title")</script> & more', "<b>bold</b> dek", "A body with <script>alert(1)</script>.", "city", "mara-ellison",
    NOW - timedelta(days=2), ("</script>", "tag"),
)  # fmt: skip
UNTEXTED = Article("import-1", "Article 1", "", "", "city", "nobody", NOW - timedelta(days=12), imported=True)
WITHDRAWN = Article("withdrawn", "Withdrawn", "", "x", "city", "", NOW - timedelta(days=1), withdrawn=True)
TOMORROW = Article("tomorrow", "Tomorrow's news", "", "x", "city", "", NOW + timedelta(days=1))
EXTRA = (HOSTILE, UNTEXTED, WITHDRAWN, TOMORROW)


@dataclass(frozen=True)
class Entry:
    """A section or an author, as desk.toml has them."""

    slug: str
    name: str
    says: str = ""
    beat: str = ""
    bio: str = ""


@dataclass(frozen=True)
class PreviewDesk:
    name: str = "The Larkhaven Courier"
    motto: str = "What happened, where, and who swept up afterwards."
    sections: Sequence[Entry] = ()
    authors: Sequence[Entry] = ()
    editors_order: Sequence[str] = ()


def read_articles(folder: Path, now: datetime) -> list[Article]:
    """Read the newspaper's Markdown files ("-2d 16:15" counts days back from ``now``)."""
    found = []
    for path in sorted(folder.rglob("*.md")):
        head, body = path.read_text("utf-8").split("+++\n", 2)[1:]
        meta = tomllib.loads(head)
        days, clock = meta.pop("published").split("d ")
        hours, minutes = map(int, clock.split(":"))
        day = now.replace(hour=0, minute=0) + timedelta(days=int(days))
        at = now - timedelta(hours=hours, minutes=minutes) if int(days) == 0 else day + timedelta(hours=hours, minutes=minutes)
        found.append(Article(path.stem, body=body, published_at=at, tags=tuple(meta.pop("tags")), **meta))
    return found


def read_desk(path: Path) -> PreviewDesk:
    stored = tomllib.loads(path.read_text("utf-8"))
    parts = {key: tuple(Entry(**entry) for entry in stored[key]) for key in ("sections", "authors")}
    return PreviewDesk(stored["name"], stored["motto"], editors_order=tuple(stored["editors_order"]), **parts)


@dataclass
class PreviewSite:
    """Everything the pages ask for. Attributes may be replaced by a test to show another state."""

    catalogue: Catalogue
    desk: PreviewDesk
    filled: bool = True
    read: int = 5
    page_choices: Choices = field(default_factory=Choices)
    known: bool = True
    stored: dict[str, Any] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    chosen: list[dict[str, bool | None]] = field(default_factory=list)

    def now(self) -> datetime:
        return NOW

    def open_page(self, request: Request, page_type: str, *, article: Article | None = None, section: str | None = None) -> PageView:
        slot = None
        if page_type == "article" and article:
            others = [a for a in latest(self.catalogue, NOW, n=7) if a.id != article.id][:6] if self.filled else []
            slot = SlotView(tuple(self._item(a, i) for i, a in enumerate(others)), ask=self.page_choices.personal is None)
        return PageView("TOKEN" if self.page_choices.measured else None, slot, self.page_choices, self.known)

    def _item(self, article: Article, place: int) -> SlotItem:
        reasons = ("Most read today", "Also read by readers of this article", "Just published")
        return SlotItem(article, f"/en/article/{article.id}?via=LINK{place}", reasons[place % 3])

    def finish(self, response: Response, page: PageView) -> None:
        response.vary.add("Cookie")

    def choices(self, request: Request) -> Choices:
        return self.page_choices

    def most_read(self, n: int) -> MostRead:
        return MostRead(tuple(latest(self.catalogue, NOW, n=n, skip=9)[: self.read]), "the last 24 hours")

    def why(self, token: str) -> WhyView | None:
        items = tuple(self._item(a, i) for i, a in enumerate(latest(self.catalogue, NOW, n=3)))
        view = WhyView(
            items, "The order comes from what is read most right now.", False, "Do readers want recommendations?", "most read now",
            (("How much it is read right now", 0.7), ("How new it is", 0.3)),
        )  # fmt: skip
        return view if token == "TOKEN" else None

    def choose(
        self, request: Request, response: Response, *, measured: bool | None = None, tests: bool | None = None, personal: bool | None = None
    ) -> None:
        self.chosen.append({"measured": measured, "tests": tests, "personal": personal})

    def export(self, request: Request) -> dict[str, Any]:
        return dict(self.stored.get("export", results.EXPORT))

    def erase(self, request: Request, response: Response) -> bool:
        self.stored["export"] = {"reader": None}
        return True

    def report(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.stored.get("reports", results.REPORTS).get(name)
        return found

    def record(self) -> dict[str, Any]:
        return {"faults": [], "rows": [{"experiment": "related", "advice": "", **entry} for entry in results.SHIP["log"]]}

    def start(self, name: str, *, who: str, reason: str) -> None:
        self.ran.append(f"start {name}: {who}, {reason}")

    def stop(self, name: str, *, who: str, reason: str) -> None:
        self.ran.append(f"stop {name}: {who}, {reason}")

    def decide(self, name: str, arm: str, *, who: str, reason: str) -> None:
        self.ran.append(f"decide {name} {arm}: {who}, {reason}")

    def reports(self) -> list[dict[str, Any]]:
        return [results.summary(report) for report in self.stored.get("reports", results.REPORTS).values()]

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.stored.get("jobs", results.JOBS))

    def run_job(self, name: str) -> str:
        if name not in {row["name"] for row in self.jobs()}:
            raise NotFoundError(f"no job is called '{name}'.", "See the timetable.")
        self.ran.append(name)
        return f"{name} starts within a second."

    def models(self) -> list[dict[str, Any]]:
        return list(self.stored.get("models", results.MODELS))

    def standing(self) -> dict[str, Any]:
        return dict(self.stored.get("standing", results.STANDING))

    def drift(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.stored.get("drift", results.DRIFT)
        return found

    def explanation(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.stored.get("explanation", results.EXPLANATION)
        return found

    def explain(self, *, arm: str, article: str, reads: Sequence[str]) -> dict[str, Any]:
        shown = latest(self.catalogue, NOW, n=4)
        reasons = [{"article": read, "share": 0.6} for read in reads[:1]]
        return {
            "items": [{"article": a.id, "score": 1 / (i + 1), "source": arm, "reasons": reasons} for i, a in enumerate(shown)],
            "note": "",
        }

    def health(self) -> dict[str, Any]:
        return dict(self.stored.get("health", results.HEALTH))


def read_newspaper() -> tuple[Catalogue, PreviewDesk]:
    """Return the newspaper as of NOW, with a few awkward articles beside the real ones."""
    return Catalogue([*read_articles(NEWSPAPER / "articles", NOW), *EXTRA]), read_desk(NEWSPAPER / "desk.toml")


def preview_app(newspaper: tuple[Catalogue, PreviewDesk] | None = None) -> tuple[Flask, PreviewSite]:
    """Return an application with all pages and the site behind it."""
    app = Flask("web", static_folder="static", static_url_path="/static", template_folder=str(TEMPLATES))
    app.config["RETENTION_DAYS"] = 30
    site = PreviewSite(*(newspaper or read_newspaper()))
    app.extensions["presslab"] = site
    app.config["TESTING"] = True
    protect(app)
    app.register_blueprint(reader)
    app.register_blueprint(console)

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[str, int]:
        return render_template("error.html", code=error.code, reference="", site=site), error.code or 500

    return app, site


if __name__ == "__main__":
    preview_app()[0].run(port=5099)
