"""The peer of our article page: Flask with one template of the same size, under the same server: ``python -m tests.benchmarks.bare PORT TEXT``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from flask import Flask, render_template
from gunicorn.app.base import BaseApplication
from jinja2 import DictLoader

from experiments.settings import Settings
from web.serve import server_options


class Server(BaseApplication):
    """gunicorn as ``presslab serve`` runs it."""

    def __init__(self, port: int, text: str) -> None:
        self.port, self.text = port, text
        super().__init__()

    def load_config(self) -> None:
        for name, value in server_options(Settings(port=self.port)).items():
            if name != "post_worker_init":  # looks for published changes, which only the site has
                self.cfg.set(name, value)

    def load(self) -> Any:
        app = Flask("bare")
        app.jinja_loader = DictLoader({"page.html": f"{{% raw %}}{self.text}{{% endraw %}}"})  # compiled once, as a template in a file is
        app.add_url_rule("/", "page", lambda: render_template("page.html"))
        return app


if __name__ == "__main__":
    Server(int(sys.argv[1]), Path(sys.argv[2]).read_text("utf-8")).run()
