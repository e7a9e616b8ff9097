"""Assembly of block-wise bodies, beside a model that knows no limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_adapters.coap.blocks import BlockAssembly, BodyTooLargeError, IncompleteBodyError

S = 10**9


def test_body_is_whole_after_its_last_block() -> None:
    blocks = BlockAssembly()
    assert blocks.feed("k", 0, b"ab", True, 10, 0) is None
    assert blocks.feed("k", 2, b"cd", True, 10, 0) is None
    assert blocks.feed("k", 4, b"e", False, 10, 0) == b"abcde"
    assert len(blocks) == 0


def test_bodies_of_different_senders_do_not_mix() -> None:
    blocks = BlockAssembly()
    blocks.feed("a", 0, b"1", True, 10, 0)
    blocks.feed("b", 0, b"2", True, 10, 0)
    assert blocks.feed("a", 1, b"1", False, 10, 0) == b"11"
    assert blocks.feed("b", 1, b"2", False, 10, 0) == b"22"


@pytest.mark.parametrize("start", [1, 3])
def test_block_that_does_not_follow_is_refused_and_the_body_forgotten(start: int) -> None:
    blocks = BlockAssembly()
    blocks.feed("k", 0, b"ab", True, 10, 0)
    with pytest.raises(IncompleteBodyError):
        blocks.feed("k", start, b"x", False, 10, 0)
    assert len(blocks) == 0


def test_block_zero_starts_anew() -> None:
    blocks = BlockAssembly()
    blocks.feed("k", 0, b"old", True, 10, 0)
    blocks.feed("k", 0, b"ne", True, 10, 0)
    assert blocks.feed("k", 2, b"w", False, 10, 0) == b"new"


@pytest.mark.parametrize(("last", "more", "fits"), [(b"xx", False, True), (b"xxx", False, False), (b"xx", True, False)])
def test_limit_holds_to_the_byte(last: bytes, more: bool, fits: bool) -> None:
    blocks = BlockAssembly()
    blocks.feed("k", 0, b"ab", True, 4, 0)
    if fits:
        assert blocks.feed("k", 2, last, more, 4, 0) == b"abxx"
    else:
        with pytest.raises(BodyTooLargeError):
            blocks.feed("k", 2, last, more, 4, 0)
    assert len(blocks) == 0


def test_oldest_unfinished_body_gives_way() -> None:
    blocks = BlockAssembly(max_unfinished=2)
    for key in "abc":
        blocks.feed(key, 0, b"1", True, 10, 0)
    assert len(blocks) == 2
    with pytest.raises(IncompleteBodyError):
        blocks.feed("a", 1, b"2", False, 10, 0)
    assert blocks.feed("c", 1, b"2", False, 10, 0) == b"12"


def test_unfinished_body_is_forgotten_after_its_time() -> None:
    blocks = BlockAssembly(lifetime_ns=93 * S)
    blocks.feed("k", 0, b"1", True, 10, 0)
    blocks.feed("other", 0, b"1", True, 10, 93 * S)
    assert len(blocks) == 1
    with pytest.raises(IncompleteBodyError):
        blocks.feed("k", 1, b"2", False, 10, 93 * S)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.binary(max_size=4), st.booleans()), max_size=40))
def test_memory_stays_bounded_whatever_arrives(blocks: list[tuple[int, int, bytes, bool]]) -> None:
    assembly = BlockAssembly(max_unfinished=3)
    for key, start, payload, more in blocks:
        try:
            body = assembly.feed(key, start, payload, more, 6, 0)
        except (BodyTooLargeError, IncompleteBodyError):
            continue
        finally:
            assert len(assembly) <= 3
        assert body is None or len(body) <= 6
