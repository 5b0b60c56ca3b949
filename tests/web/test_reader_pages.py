from __future__ import annotations

import gzip
import json
from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient

from tests.web.markup import links, parse, texts
from tests.web.preview import NOW, PreviewSite
from web.reader.shelf import front_page, latest
from web.site_protocol import Choices
from web.templating import STATIC

PAGES = (
    "/en/",
    "/en/section/city",
    "/en/article/hostile",
    "/en/search?q=tram",
    "/en/why/TOKEN",
    "/en/privacy",
    "/en/how-we-choose",
    "/en/nowhere",
)


def test_the_front_shows_one_lead_six_sections_of_four_and_the_most_read(client: FlaskClient) -> None:
    page = parse(client.get("/en/").text)
    lead, shelves = links(page.one(cls="lead")), [links(cards) for cards in page.all(cls="cards")]
    assert len(lead) == 1
    assert [len(cards) for cards in shelves] == [4] * 6
    assert len(links(page.one(cls="most-read"))) == 5
    shown = [*lead, *(link for cards in shelves for link in cards)]
    assert len(set(shown)) == len(shown)
    assert all(link.startswith("/en/article/") for link in shown)


def test_the_editors_first_current_choice_leads(preview: PreviewSite) -> None:
    front = front_page(preview.catalogue, preview.desk, NOW)
    assert front.lead is not None
    assert front.lead.id == preview.desk.editors_order[0]


def test_articles_of_tomorrow_and_withdrawn_ones_are_shown_nowhere(client: FlaskClient, preview: PreviewSite) -> None:
    shown = {article.id for article in latest(preview.catalogue, NOW)}
    assert {"tomorrow", "withdrawn"}.isdisjoint(shown)
    assert client.get("/en/article/tomorrow").status_code == 404
    assert client.get("/en/article/withdrawn").status_code == 410


def test_nothing_read_yet_is_said_in_words(client: FlaskClient, preview: PreviewSite) -> None:
    preview.read = 0
    assert "Nothing was read in the last 24 hours yet" in client.get("/en/").text


def test_the_slot_links_carry_their_tokens(client: FlaskClient) -> None:
    slot = next(e for e in parse(client.get("/en/article/hostile").text).walk() if e.attributes.get("data-slot") == "article.related")
    found = links(slot.one("ol"))
    assert len(found) == 6
    assert all(link.startswith("/en/article/") and "?via=LINK" in link for link in found)
    assert "Most read today" in slot.text


def test_an_empty_slot_leaves_nothing_on_the_page(client: FlaskClient, preview: PreviewSite) -> None:
    preview.filled = False
    page = client.get("/en/article/hostile").text
    assert "data-slot" not in page
    assert "Read next" not in page


def test_the_question_is_asked_until_it_is_answered(client: FlaskClient, preview: PreviewSite) -> None:
    assert "Use my reading to choose?" in client.get("/en/article/hostile").text
    preview.page_choices = Choices(personal=False)
    assert "Use my reading to choose?" not in client.get("/en/article/hostile").text


def test_an_answer_is_stored_and_leads_back(client: FlaskClient, preview: PreviewSite) -> None:
    answer = client.post("/en/choose", data={"personal": "yes", "next": "/en/article/hostile"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/en/article/hostile")
    assert preview.chosen == [{"measured": None, "tests": None, "personal": True}]
    assert client.post("/en/choose", data={"personal": "yes", "next": "//evil.example/"}).headers["Location"] == "/en/"
    assert client.post("/en/choose", data={}).status_code == 400


def test_the_privacy_form_stores_all_three_switches(client: FlaskClient, preview: PreviewSite) -> None:
    assert client.post("/en/privacy", data={"tests": "yes"}).status_code == 303
    assert preview.chosen == [{"measured": False, "tests": True, "personal": False}]


def test_the_privacy_page_says_how_long_this_site_keeps_events(client: FlaskClient) -> None:
    page = client.get("/en/privacy").text
    assert "each for 30 days at most" in page
    assert "Single events are deleted after 30 days" in page


def test_erasing_forgets_the_device_and_says_so(client: FlaskClient) -> None:
    assert "8f14e45fceea167a5a36dedd4bea2543" in client.get("/en/privacy").text
    page = client.get(client.post("/en/privacy/erase").headers["Location"]).text
    assert "This device is forgotten. What was held is being deleted" in page
    assert "This device has no id here" in page


def test_the_export_is_complete_and_no_spreadsheet_runs_it(client: FlaskClient) -> None:
    assert client.get("/en/privacy/export.json").get_json()["events"][0]["kind"] == "view"
    table = client.get("/en/privacy/export.csv").text
    assert "'=HYPERLINK" in table
    assert ",=HYPERLINK" not in table


def test_only_measured_pages_carry_the_beacon(client: FlaskClient, preview: PreviewSite) -> None:
    assert 'data-token="TOKEN"' in client.get("/en/article/hostile").text
    assert "beacon.js" not in client.get("/en/privacy").text
    preview.page_choices = Choices(measured=False)
    assert "beacon.js" not in client.get("/en/article/hostile").text


def test_the_first_visit_is_told_in_one_line_what_is_counted(client: FlaskClient, preview: PreviewSite) -> None:
    assert "We count what is read" not in client.get("/en/").text
    preview.known = False
    assert "We count what is read" in client.get("/en/").text


def test_titles_deks_bodies_and_tags_are_escaped_everywhere(client: FlaskClient) -> None:
    for address in ("/en/", "/en/section/city", "/en/article/hostile", "/en/search?q=alert"):
        page = client.get(address).text
        assert "<script>alert" not in page
        assert "<b>bold" not in page
    query = client.get("/en/search", query_string={"q": '"><script>alert(1)</script>'}).text
    assert "<script>alert" not in query


def test_the_article_tells_machines_what_it_is(client: FlaskClient) -> None:
    page = parse(client.get("/en/article/hostile").text)
    block = next(e for e in page.all("script") if e.attributes.get("type") == "application/ld+json")
    news, crumbs = json.loads(block.text)
    assert (news["@type"], news["headline"], news["inLanguage"]) == ("NewsArticle", '<script>alert("title")</script> & more', "en")
    assert news["author"]["name"] == "Mara Ellison"
    assert [step["name"] for step in crumbs["itemListElement"]][1] == "City"
    canonical = next(e.attributes["href"] for e in page.all("link") if e.attributes.get("rel") == "canonical")
    assert canonical == "http://localhost/en/article/hostile"


def test_an_arm_never_changes_the_canonical_address(client: FlaskClient) -> None:
    assert '<link rel="canonical" href="http://localhost/en/article/hostile">' in client.get("/en/article/hostile?via=LINK3").text


def test_an_imported_article_without_text_says_so(client: FlaskClient) -> None:
    assert "was not part of the import" in client.get("/en/article/import-1").text


def test_every_article_has_a_drawing_of_its_own_that_keeps_the_policy(client: FlaskClient) -> None:
    drawings = {name: client.get(f"/art/{name}.svg") for name in ("import-1", "hostile", "whale-in-the-harbour")}
    for drawing in drawings.values():
        assert (drawing.status_code, drawing.mimetype) == (200, "image/svg+xml")
        assert "style" not in drawing.text
        assert ElementTree.fromstring(drawing.data).tag.endswith("svg")
    assert len({drawing.data for drawing in drawings.values()}) == 3


def test_a_section_goes_on_by_links_and_ends(client: FlaskClient) -> None:
    first = parse(client.get("/en/section/city").text)
    assert len(first.all(cls="card")) == 20
    pager = first.one("nav", "pager")
    assert links(pager) == ["/en/section/city?page=2"]
    assert client.get("/en/section/city?page=99").status_code == 404
    assert client.get("/en/section/nix").status_code == 404


def test_search_marks_what_it_found_and_offers_spellings(client: FlaskClient) -> None:
    page = parse(client.get("/en/search?q=whale").text)
    assert {mark.text.lower() for mark in page.all("mark")} <= {"whale", "whales", "whale’s"}
    assert page.all("mark")
    assert "/en/search?q=whale" in links(parse(client.get("/en/search?q=whalle").text))


def test_search_filters_by_section_and_author(client: FlaskClient, preview: PreviewSite) -> None:
    hits = links(parse(client.get("/en/search?author=yuki-dorn&section=science").text).one("main"))
    shown = [preview.catalogue.articles[preview.catalogue.positions[link.rsplit("/", 1)[1]]] for link in hits if "/article/" in link]
    assert shown
    assert {(article.author, article.section) for article in shown} == {("yuki-dorn", "science")}


def test_a_missing_page_offers_the_latest_five(client: FlaskClient) -> None:
    page = parse(client.get("/en/nowhere").text)
    assert len(page.one(cls="latest").all("li")) == 5
    assert page.one("h1").text == "There is nothing at this address"


def test_why_explains_or_is_missing(client: FlaskClient) -> None:
    page = client.get("/en/why/TOKEN").text
    assert "most read now" in page
    assert "Not used." in page
    assert client.get("/en/why/OTHER").status_code == 404


@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_well_formed_has_one_heading_and_is_light(client: FlaskClient, address: str) -> None:
    answer = client.get(address)
    page = parse(answer.text)
    assert len(page.all("h1")) == 1
    assert page.one("main").attributes["id"] == "main"
    names = [e.attributes["id"] for e in page.walk() if "id" in e.attributes]
    assert len(names) == len(set(names))
    files = b"".join((STATIC / name).read_bytes() for name in ("site.css", "beacon.js"))
    assert len(gzip.compress(answer.data)) + len(gzip.compress(files)) < 14_000


def test_pages_that_depend_on_an_arm_are_private(client: FlaskClient) -> None:
    for address in ("/en/", "/en/article/hostile", "/en/section/city", "/en/search?q=x"):
        headers = client.get(address).headers
        assert headers["Cache-Control"] == "private, no-cache"
        assert "Cookie" in headers["Vary"]


def test_headlines_have_typographic_quotes(client: FlaskClient) -> None:
    titles = texts(parse(client.get("/en/search?q=lamp").text).all("h2"))
    assert any("“Look at the lamp”" in title for title in titles)
