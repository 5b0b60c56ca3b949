"""The blueprint that all reader pages hang on."""

from __future__ import annotations

from flask import Blueprint

from web.templating import prepare

__all__ = ["reader"]

reader = Blueprint("reader", __name__)
prepare(reader)
