"""Which pages the application has."""

from __future__ import annotations

from flask import Flask

from web.owner.pages import console
from web.reader.pages import reader

__all__ = ["install_pages"]


def install_pages(app: Flask) -> None:
    """Register reader pages and console."""
    app.register_blueprint(reader)
    app.register_blueprint(console)
