"""Reading pages in tests: elements by class, text by section."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

__all__ = ["Element", "links", "parse", "texts"]

VOID = {"meta", "link", "img", "input", "br", "hr", "col"}


class Element:
    """A node with attributes, children and text."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes, self.children = tag, attributes, list[Element | str]()

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, tag: str = "", cls: str = "") -> list[Element]:
        return [e for e in self.walk() if tag in ("", e.tag) and (not cls or cls in e.attributes.get("class", "").split())]

    def one(self, tag: str = "", cls: str = "") -> Element:
        found = self.all(tag, cls)
        assert len(found) == 1, f"{len(found)} elements {tag}.{cls}"
        return found[0]

    @property
    def text(self) -> str:
        parts = (
            child if isinstance(child, str) else child.text
            for child in self.children
            if not isinstance(child, Element) or child.tag != "style"
        )
        return " ".join("".join(parts).split())


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.stack = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.stack[-1].children.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.stack[-1].children.append(Element(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack[-1].tag == tag, f"</{tag}> closes <{self.stack[-1].tag}>"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        self.stack[-1].children.append(data + " " if self.stack[-1].tag in ("p", "li", "td", "th", "dt", "dd", "b") else data)


def parse(html: str) -> Element:
    """Return the tree; an element left open or closed twice fails the test."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert builder.stack == [builder.root], f"left open: {[e.tag for e in builder.stack[1:]]}"
    return builder.root


def links(element: Element) -> list[str]:
    return [e.attributes["href"] for e in element.all("a") if "href" in e.attributes]


def texts(elements: list[Element]) -> list[str]:
    return [element.text for element in elements]
