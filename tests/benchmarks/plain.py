"""Our article page as Flask alone makes it, under the same server: ``python -m tests.benchmarks.plain PORT HOME``.

The site's own templates, rendered anew at each request, with the six newest articles below the text: no reader, no test, no event.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from flask import render_template

from experiments.settings import Settings
from tests.benchmarks.bare import Server
from web.app import create_app
from web.reader.pages import _rendered
from web.reader.shelf import latest
from web.site import NewsSite
from web.site_protocol import PageView, SlotItem, SlotView

TOKEN = "x" * 300  # as long as one of ours


class PlainServer(Server):
    """gunicorn as ``presslab serve`` runs it."""

    def load(self) -> Any:
        app = create_app(Settings(home=Path(self.text)))
        site: NewsSite = app.extensions["presslab"]

        def page(article_id: str) -> str:
            found = site.catalogue.articles[site.catalogue.positions[article_id]]
            below = latest(site.catalogue, site.now(), n=6)
            slot = SlotView(tuple(SlotItem(one, f"/plain/{one.id}", "One of the newest") for one in below))
            values = {"page": PageView(TOKEN, slot), "desk": site.desk, "now": site.now(), "article": found}
            return render_template("reader/article.html", still=_rendered(found, site.desk), **values)

        app.add_url_rule("/plain/<article_id>", "plain", page)
        return app


if __name__ == "__main__":
    PlainServer(int(sys.argv[1]), sys.argv[2]).run()
