"""What holds for every page and file: the content security policy can be kept, colours can be read, the script is small."""

from __future__ import annotations

import re

import pytest
import typer.main
from flask import Flask
from flask.testing import FlaskClient

from tests.web.preview import PreviewSite
from web.cli.commands import install
from web.cli.main import app
from web.templating import STATIC, TEMPLATES

ARGUMENTS = {"slug": "city", "article_id": "hostile", "token": "TOKEN", "name": "related"}
INLINE = re.compile(r"<script(?![^>]*\bsrc=)(?![^>]*application/ld\+json)[^>]*>", re.IGNORECASE)
HANDLER = re.compile(r"<[a-z][^>]*\son[a-z]+\s*=", re.IGNORECASE)
FOREIGN = re.compile(r"<(?:script|link|img|iframe|form|source)[^>]*\b(?:src|href|action)=\"(?:https?:)?//(?!localhost)", re.IGNORECASE)


def addresses(app: Flask) -> list[str]:
    with app.test_request_context():
        adapter = app.create_url_adapter(None) or app.url_map.bind("localhost")
        rules = [rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()) and rule.endpoint != "static"]
        return [adapter.build(rule.endpoint, {key: ARGUMENTS[key] for key in rule.arguments}) for rule in rules]


def test_every_page_keeps_the_content_security_policy(pair: tuple[Flask, PreviewSite], client: FlaskClient) -> None:
    checked = 0
    for address in addresses(pair[0]):
        answer = client.get(address)
        assert answer.status_code in (200, 302), address
        if answer.mimetype != "text/html" or "attachment" in answer.headers.get("Content-Disposition", ""):
            continue
        checked += 1
        assert not re.search(r"<[^>]*\sstyle\s*=", answer.text), address
        assert not INLINE.search(answer.text), address
        assert not HANDLER.search(answer.text), address
        assert not FOREIGN.search(answer.text), address
    assert checked >= 15


def test_the_beacon_is_at_most_500_bytes_and_never_breaks_the_back_button() -> None:
    script = (STATIC / "beacon.js").read_text("utf-8")
    assert len(script.encode()) <= 500
    assert "unload" not in script
    assert "sendBeacon" in script


def test_static_files_are_found_under_their_hash(client: FlaskClient) -> None:
    page = client.get("/en/article/hostile").text
    for name in ("site.css", "beacon.js", "icon.svg"):
        found = re.search(rf'"(/static/{re.escape(name)}\?v=[0-9a-f]{{8}})"', page)
        assert found, name
        with client.get(found[1]) as answer:
            assert answer.status_code == 200


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(2 * c for c in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


TOKENS = dict(re.findall(r"--([\w-]+):light-dark\((#\w+,#\w+)\)", (STATIC / "site.css").read_text("utf-8")))


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["background", "wash"])
def test_every_text_colour_can_be_read(mode: int, ground: str) -> None:
    behind = TOKENS[ground].split(",")[mode]
    found = {
        name: contrast(TOKENS[name].split(",")[mode], behind)
        for name in ("text", "muted", "good", "bad", "warn", "accent", "quo", "heuristic", "fourth")
    }
    assert {name: value for name, value in found.items() if value < 4.5} == {}
    assert contrast(TOKENS["line"].split(",")[mode], behind) >= 2.9


def test_every_command_a_page_names_exists() -> None:
    known = main_command()
    sources = [*TEMPLATES.rglob("*.html"), *TEMPLATES.with_name("owner").glob("*.py"), *TEMPLATES.with_name("scientist").glob("*.py")]
    named = {match for path in sources for match in re.findall(r"presslab ([a-z]+)(?: ([a-z-]+))?", path.read_text("utf-8"))}
    assert ("experiment", "decide") in named
    for group, verb in named:
        assert group in known, f"presslab {group}"
        verbs = getattr(known[group], "commands", None)
        assert verbs is None or verb in verbs, f"presslab {group} {verb}"


def main_command() -> dict[str, object]:
    install()
    return dict(getattr(typer.main.get_command(app), "commands"))  # noqa: B009 - a click group, seen through typer's type


def test_templates_hold_no_arithmetic_on_results() -> None:
    rounding = re.compile(r"\|\s*round|\"%\.\d|\{:\.\d")
    assert [path.name for path in TEMPLATES.rglob("*.html") if rounding.search(path.read_text("utf-8"))] == []
