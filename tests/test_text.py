"""Text that strangers chose, where it is made fit to be shown."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpumon.text import is_plain_json, one_line, printable, printable_json

signs = st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\/\b\f\n\r\t\x00\x1b\x7f\x9b\u202e\u2066\ufeff🚀')
texts = st.text(signs)
values = st.recursive(
    texts | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)


def shown(value: Any) -> Any:
    """``value`` with all text printable. Keys that become the same are one."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): shown(one) for key, one in value.items()}
    return [shown(one) for one in value] if isinstance(value, list) else value


@given(values, st.booleans(), st.sampled_from([None, 2]))
@example("\\n", True, None)
@example("\\\n", True, None)
@example("\\u202e", False, None)
@example({"\\\u202e": ["\x1b[0m"]}, True, 2)
def test_json_is_printable_as_its_text_would_be(value: Any, ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert json.loads(printable_json(data)) == shown(value)
    if is_plain_json(data):
        assert printable_json(data) == data
    assert printable_json(printable_json(data)) == printable_json(data)


@given(st.text(st.characters(max_codepoint=127) | st.sampled_from("\\u\ud7ff")).map(str.encode))
@example(b'"\\u0041\\udc00"')
@example(b'"\\ud800\\ud800"')
@example(b"\\")
@example(b"\\u12")
def test_what_is_no_json_harms_nobody(data: bytes) -> None:
    printable_json(data)


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_much_text_takes_no_more_than_its_length_asks_for(size: int) -> None:
    """That this ends within the time of a test is what it shows."""
    for piece in ("\\u202e", "\\\\", "\\u", "\u202e", "\\ud83d\\ude80", "\\ud83d"):
        printable_json(f'"{piece * (size // len(piece))}"'.encode())


@given(texts, st.integers(0, 50))
def test_a_text_in_a_sentence_is_one_short_line(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert line.isprintable()
