from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from experiments.events.event import Event
from experiments.events.wire import COLUMNS, RefusedError, decode, decode_all, encode, encode_all, kind_and_arm, payload, reader_of
from tests.events.story import START, view


def refused(event: Event) -> str:
    with pytest.raises(RefusedError) as caught:
        decode(encode(event))
    return str(caught.value)


def test_what_is_written_is_what_is_stored() -> None:
    event = replace(view(1, "Zoë"), client_at=START, sent_at=START + 5, device="phone", config="7")
    row = dict(zip(COLUMNS, decode(encode(event)), strict=True))
    assert (row["id"], row["reader"], row["client_at"], row["late"], row["bot"]) == (event.id, "Zoë", START, 0, 0)
    assert json.loads(row["body"]) == event.body


def test_only_the_time_of_arrival_may_differ_when_an_event_is_sent_again() -> None:
    event = view(1)
    again = replace(event, received_at=event.received_at + 9, client_at=1, sent_at=2)
    assert payload(decode(encode(event))) == payload(decode(encode(again)))
    assert payload(decode(encode(event))) != payload(decode(encode(replace(event, arm="als"))))


def test_an_event_is_late_from_a_day_after_its_page() -> None:
    event = view(1)
    late = [
        decode(encode(replace(event, received_at=event.issued_at + day)))[COLUMNS.index("late")] for day in (86_400_000_000, 86_400_000_001)
    ]
    assert late == [0, 1]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1, 2**63, 1.5, "1", None, True])
def test_times_that_are_no_times_become_dead_letters(wrong: Any) -> None:
    assert refused(replace(view(1), issued_at=wrong)) in ("bad time", "not readable")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("view", {"page_type": "cinema"}),
        ("dwell", {"active_ms": -1, "depth_percent": 50}),
        ("dwell", {"active_ms": math.nan, "depth_percent": 50}),
        ("dwell", {"active_ms": 5, "depth_percent": 101}),
        ("exposure", {"phase": 0, "bucket": 1, "reason": "chance", "outcome": "served"}),
        ("impression", {"slot": "s", "articles": [1]}),
        ("click", {"slot": "s", "article": "a\n"}),
        ("conversion", {"value": 2**62}),
    ],
)
def test_bodies_that_break_their_kind_become_dead_letters(kind: str, body: dict[str, Any]) -> None:
    refused(replace(view(1), kind=kind, body=body))


@pytest.mark.parametrize(
    "change",
    [{"kind": "gossip"}, {"source": "elsewhere"}, {"schema": 2}, {"page_view": "xyz"}, {"reader": "\ud800"}, {"reader": 5}, {"bot": 1}],
)
def test_envelopes_that_are_wrong_become_dead_letters(change: dict[str, Any]) -> None:
    refused(replace(view(1), **change))


def test_a_body_over_four_kibibytes_becomes_a_dead_letter() -> None:
    assert refused(replace(view(1), body={"page_type": "front", "x": "y" * 4096})) == "body over 4096 bytes"


def test_the_web_process_can_hand_over_a_dead_letter_with_its_reason() -> None:
    assert refused(replace(view(1), kind="click", body={"dead": "foreign"})) == "foreign"


@pytest.mark.parametrize("change", [{"kind": "\ud800"}, {"arm": "x" * 201}, {"body": {"x": object()}}, {"body": {"x": "y" * 70_000}}])
def test_an_event_that_cannot_be_written_is_refused_before_it_is_counted(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode(replace(view(1), **change))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_nothing_worse(entry: bytes) -> None:
    with pytest.raises(RefusedError):
        decode(entry)
    assert len(kind_and_arm(entry)) == 2


@pytest.mark.parametrize("entry", [b"[" * 60_000, b'{"a":' * 9_000, b'["view","",' + b"[" * 20_000, b"{}", b'"ab"', b"null", b"\xff"])
def test_an_entry_that_is_no_event_at_all_is_refused_and_counted(entry: bytes) -> None:
    with pytest.raises(RefusedError, match="not readable"):
        decode(entry)
    assert (kind_and_arm(entry), reader_of(entry)) == (("?", ""), "")


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_never_does_more_than_change_a_value(place: int, byte: int) -> None:
    entry = bytearray(encode(view(1)))
    entry[place % len(entry)] = byte
    try:
        row = decode(bytes(entry))
    except RefusedError:
        return
    assert len(row) == len(COLUMNS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def with_numbers_as_text(value: Any) -> Any:
    """The same value with every float spelled out: NaN is not equal to itself."""
    if isinstance(value, dict):
        return {key: with_numbers_as_text(one) for key, one in value.items()}
    if isinstance(value, list):
        return [with_numbers_as_text(one) for one in value]
    return repr(value) if isinstance(value, float) else value


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4), st.text(st.characters(exclude_categories=()), max_size=9))
def test_an_entry_says_what_the_event_says_in_ascii_and_with_sorted_keys(body: dict[str, Any], reader: str) -> None:
    line, _, text = encode(replace(view(1), body=body, reader=reader)).decode("ascii").partition("\n")
    assert json.loads(line)[4] == reader
    assert with_numbers_as_text(json.loads(text)) == with_numbers_as_text(body)
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == json.dumps(body, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize("where", ["issued_at", "received_at", "client_at", "sent_at"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1.0, 2**80, True])
def test_no_time_that_is_none_becomes_the_absence_of_one(where: str, wrong: Any) -> None:
    refused(replace(view(1), **{where: wrong}))


def test_a_number_that_is_none_makes_a_dead_letter_wherever_it_stands_in_a_body() -> None:
    refused(replace(view(1), body={"page_type": "front", "more": {"x": [math.nan]}}))


PIECES = (
    b"NaN",
    b"-1",
    b"1e999",
    b"1.0",
    b"true",
    b"null",
    b'"\\ud800"',
    b"\x01",
    b" ",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b'"',
    b"01",
    b'"dead":1,',
    b"\xc3\xa9",
)
BODIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("view", {"page_type": "front", "more": [1.5, None, {"é": "\n"}]}),
    ("impression", {"slot": "s", "articles": ["a", "b"]}),
    ("dwell", {"active_ms": 5, "depth_percent": 50}),
    ("canary", {"minute": 7}),
)


@given(
    st.sampled_from(BODIES), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 6), st.sampled_from(PIECES)), min_size=1, max_size=3)
)
def test_what_is_accepted_is_json_and_says_what_the_row_says(
    written: tuple[str, dict[str, Any]], changes: list[tuple[int, int, bytes]]
) -> None:
    kind, body = written
    entry = encode(replace(view(1), kind=kind, body=body))
    for place, length, piece in changes:
        place %= len(entry)
        entry = entry[:place] + piece + entry[place + length :]
    try:
        row = dict(zip(COLUMNS, decode(entry), strict=True))
    except RefusedError:
        return
    line, _, text = entry.decode("ascii").partition("\n")
    envelope = json.loads(line)
    assert (row["id"].hex(), row["page_view"], row["reader"]) == tuple(envelope[2:5])
    assert [row[name] for name in ("issued_at", "received_at", "client_at", "sent_at")] == envelope[6:10]
    assert row["body"] == text
    assert isinstance(json.loads(text, parse_constant=pytest.fail), dict)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 2}, "unknown schema"),
        ({"kind": "gossip"}, "unknown kind or source"),
        ({"bot": 1}, "unknown kind or source"),
        ({"page_view": ""}, "bad id"),
        ({"id": b"short"}, "bad id"),
        ({"device": "x" * 401}, "bad name"),
        ({"reader": "a\u2028b"}, "bad name"),
        ({"sent_at": -1}, "bad time"),
        ({"body": []}, "not readable"),
        ({"body": {}}, "view: bad page_type"),
        ({"kind": "click", "body": {"slot": "s", "article": "a\n"}}, "click: bad name"),
        ({"kind": "click", "body": {"slot": "s", "dead": {"why": 1}}}, "{'why': 1}"),
        ({"kind": "canary", "body": {"dead": None}}, "None"),
    ],
)
def test_a_dead_letter_says_why(change: dict[str, Any], reason: str) -> None:
    assert refused(replace(view(1), **change)) == reason


@given(st.lists(st.tuples(st.sampled_from(BODIES), st.integers(0, 400), st.sampled_from((b"", *PIECES))), min_size=1, max_size=6))
def test_entries_are_taken_together_if_each_of_them_would_be_and_say_the_same(written: list[tuple[Any, int, bytes]]) -> None:
    entries = []
    for (kind, body), place, piece in written:
        entry = encode(replace(view(1), kind=kind, body=body))
        entries.append(entry[: place % len(entry)] + piece + entry[place % len(entry) :])
    try:
        alone = [decode(entry) for entry in entries]
    except RefusedError:
        with pytest.raises(RefusedError):
            decode_all(entries)
    else:
        assert list(zip(*decode_all(entries), strict=True)) == alone


@given(st.lists(st.tuples(st.sampled_from(BODIES), st.sampled_from(["", "anna", "Zoë", "null"]), st.sampled_from([None, 1]))))
def test_events_are_written_together_as_each_of_them_would_be(told: list[tuple[Any, str, int | None]]) -> None:
    events = [replace(view(1), kind=kind, body=body, reader=reader, sent_at=at) for (kind, body), reader, at in told]
    assert encode_all(events) == [encode(event) for event in events]


def test_writing_events_leaves_nothing_in_memory() -> None:
    events = [view(1)]
    encode_all(events)
    before = sys.getallocatedblocks()
    for _ in range(1_000):
        encode_all(events)
    assert sys.getallocatedblocks() - before < 200


@pytest.mark.parametrize(("device", "accepted"), [("x" * 380, True), ("x" * 401, False), ("a\u2028b", False)])
def test_one_entry_with_a_bad_name_spoils_those_it_is_taken_with(device: str, accepted: bool) -> None:
    entries = [encode(view(1)), encode(replace(view(2), device=device)), encode(view(3))]
    with nullcontext() if accepted else pytest.raises(RefusedError):
        decode_all(entries)


@pytest.mark.parametrize("change", [{"page_view": ""}, {"id": b"x" * 15}, {"page_view": "A" * 32}, {"page_view": "a" * 31}])
def test_one_entry_with_a_bad_id_spoils_those_it_is_taken_with(change: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        decode_all([encode(view(1)), encode(replace(view(2), **change)), encode(view(3))])
