"""Records: what is written is read, and damage takes no more than what it touches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.outbox.record import Record, encode, places

records = st.lists(
    st.builds(
        Record,
        st.integers(0, 2**64 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 2),
        st.one_of(st.binary(max_size=300), st.integers(0, 4000).map(lambda n: b"ab" * n)),
    ),
    max_size=8,
)


def read(content: bytes) -> list[Record]:
    return [place.record(content) for place in places(content, 0)]


@given(records)
def test_what_is_written_is_read(given_records: list[Record]) -> None:
    assert read(b"".join(map(encode, given_records))) == given_records


@given(records, st.data())
def test_damage_takes_only_the_records_it_touches(given_records: list[Record], data: st.DataObject) -> None:
    encoded = [encode(record) for record in given_records]
    content = bytearray(b"".join(encoded))
    if not content:
        return
    first = data.draw(st.integers(0, len(content) - 1))
    last = min(len(content), first + data.draw(st.integers(1, 40)))
    damage = data.draw(st.binary(min_size=last - first, max_size=last - first))
    untouched, start = [], 0
    for record, part in zip(given_records, encoded, strict=True):
        if start + len(part) <= first or start >= last:
            untouched.append(record)
        start += len(part)
    content[first:last] = damage
    found = read(bytes(content))
    assert [record for record in found if record in untouched] == untouched
    assert all(record in given_records for record in found)


@given(st.binary(max_size=200))
def test_garbage_is_no_record(content: bytes) -> None:
    assert read(content) == []


def test_long_payloads_are_packed() -> None:
    assert len(encode(Record(1, 0, 0, b'{"sensor": 1.25}' * 100))) < 150
