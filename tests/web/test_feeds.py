from __future__ import annotations

from datetime import datetime
from xml.etree import ElementTree

from flask.testing import FlaskClient

ATOM = "{http://www.w3.org/2005/Atom}"
MAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
NEWS = "{http://www.google.com/schemas/sitemap-news/0.9}"


def test_the_feed_holds_the_newest_thirty_in_order(client: FlaskClient) -> None:
    feed = ElementTree.fromstring(client.get("/feeds/site.xml").data)
    entries = feed.findall(f"{ATOM}entry")
    assert len(entries) == 30
    times = [datetime.fromisoformat(str(e.findtext(f"{ATOM}updated"))) for e in entries]
    assert times == sorted(times, reverse=True)
    assert all(str(e.findtext(f"{ATOM}id")).startswith("http://localhost/en/article/") for e in entries)


def test_a_section_feed_holds_that_section_and_hostile_titles_as_text(client: FlaskClient) -> None:
    feed = ElementTree.fromstring(client.get("/feeds/section/city.xml").data)
    entries = feed.findall(f"{ATOM}entry")
    assert {str(e.find(f"{ATOM}category").attrib["term"]) for e in entries} == {"city"}  # type: ignore[union-attr]
    assert '<script>alert("title")</script> & more' in [e.findtext(f"{ATOM}title") for e in entries]
    assert client.get("/feeds/section/nix.xml").status_code == 404


def test_an_unchanged_feed_is_not_sent_again(client: FlaskClient) -> None:
    first = client.get("/feeds/site.xml")
    again = client.get("/feeds/site.xml", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "Last-Modified" not in first.headers  # the time of the newest article stays when one is withdrawn


def test_the_sitemaps_list_published_articles_only(client: FlaskClient) -> None:
    every = [e.text or "" for e in ElementTree.fromstring(client.get("/sitemap.xml").data).iter(f"{MAP}loc")]
    assert any(address.endswith("/hostile") for address in every)
    assert not any(address.endswith(("/tomorrow", "/withdrawn")) for address in every)
    recent = ElementTree.fromstring(client.get("/news-sitemap.xml").data).findall(f"{MAP}url")
    assert 0 < len(recent) < len(every)
    assert all(entry.findtext(f"{NEWS}news/{NEWS}publication/{NEWS}name") == "The Larkhaven Courier" for entry in recent)


def test_robots_keep_out_of_the_console_and_of_tokens(client: FlaskClient) -> None:
    text = client.get("/robots.txt").text
    assert "Disallow: /console/" in text
    assert "Sitemap: http://localhost/sitemap.xml" in text
