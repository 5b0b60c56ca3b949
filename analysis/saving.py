"""A report as a file for those who were not in the notebook."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from markdown_it import MarkdownIt

from analysis.comparison import Effect
from analysis.drawing import draw_forest
from experiments.errors import DataError
from experiments.files import replace_file

__all__ = ["as_html", "save"]

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;display:block;overflow-x:auto}}td,th{{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #8a9099}}</style>
</head><body><h1>{title}</h1>
{body}</body></html>
"""


class Written(Protocol):
    """What can be saved."""

    def to_markdown(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...
    def _repr_html_(self) -> str: ...


def as_html(markdown: str, effects: Sequence[Effect]) -> str:
    """Return a report's text and its forest as HTML; names in it can do nothing."""
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)) + draw_forest(effects)


def save(report: Written, path: Path) -> None:
    """Write a report, whole or not at all.

    Raises
    ------
    DataError
        The suffix is not ``.html``, ``.md`` or ``.json``.
    """
    found = report.to_dict()
    if path.suffix == ".html":
        text = PAGE.format(title=html.escape(found["question"]), body=report._repr_html_())
    elif path.suffix == ".md":
        text = f"# {html.escape(found['question'], quote=False)}\n\n{report.to_markdown()}"
    elif path.suffix == ".json":
        text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        raise DataError(f"a report cannot be saved as '{path.suffix}'.", "End the name in .html, .md or .json.")
    replace_file(path, text.encode())
