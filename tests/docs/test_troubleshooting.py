"""Whatever hub and agent can say has its row in docs/troubleshooting.md, by its code and in its own words."""

import ast
import functools
import re
from collections.abc import Iterator
from typing import Final, get_args

import pytest

from gpumon.agent import words
from gpumon.model import Fault, GpuStatus, NodeStatus, ReportStatus
from gpumon.wire import Close
from tests.docs.blocks import ROOT

PAGE: Final = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
BY_KEYWORD: Final = frozenset({"Fault"})
BY_PLACE: Final = frozenset({"PollError", "ChildError"})
WELL: Final = frozenset({"ok", *get_args(NodeStatus)})


def said() -> dict[str, set[str]]:
    """Every code of a fault in the source, with the constant parts of what is said along with it."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "gpumon").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                for code, message in _of_call(node.func.id, node):
                    found.setdefault(code, set()).update(message)
    for status in (*get_args(ReportStatus), *get_args(GpuStatus)):
        if status not in WELL:
            found.setdefault(status, set())
    return found


def _of_call(name: str, call: ast.Call) -> Iterator[tuple[str, set[str]]]:
    keywords = {one.arg: one.value for one in call.keywords if one.arg}
    code: ast.expr | None = None
    message: list[ast.expr] = []
    if name in BY_KEYWORD and "code" in keywords:
        code, message = keywords["code"], [keywords["message"]]
    elif name in BY_PLACE and call.args:
        code, message = call.args[0], call.args[1:2]
    if code is not None:
        words = {one for part in message for one in _constants(part)}
        for one in _codes(code):
            yield one, words


def _codes(code: ast.expr) -> Iterator[str]:
    if isinstance(code, ast.JoinedStr):
        yield "nvml_N"
    elif isinstance(code, ast.IfExp):
        yield from (*_codes(code.body), *_codes(code.orelse))
    elif isinstance(code, ast.Constant):
        yield str(code.value)


def _constants(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and len(inner.value.strip()) > 2:
            yield " ".join(inner.value.split())


@functools.cache
def _words_of_the_source() -> frozenset[str]:
    """All texts in it: sentences are made up in one place and told in another."""
    files = sorted((ROOT / "gpumon").rglob("*.py"))
    return frozenset(one for path in files for one in _constants(ast.parse(path.read_text(encoding="utf-8"))))


SAID: Final = said()
CHINESE: Final = (ROOT / "web" / "src" / "messages" / "faults.zh.ts").read_text(encoding="utf-8")
ROWS: Final = {
    cells[2].strip().strip("`"): cells[1].strip()
    for cells in (line.split("|") for line in PAGE.splitlines() if line.startswith("| "))
    if len(cells) == 5 and re.fullmatch(r" `[a-zA-Z_]+` ", cells[2])
}


def test_the_source_says_what_we_look_for() -> None:
    assert {"agent_died", "no_driver", "nvml_N", "timeout", "refused", "open_push", "lost", "unresponsive"} <= set(SAID)
    assert len(SAID) > 45


@pytest.mark.parametrize("code", sorted(SAID))
def test_every_code_has_its_row(code: str) -> None:
    assert code in ROWS, f"docs/troubleshooting.md has no row for `{code}`, which is said as: {sorted(SAID[code])}"


def test_no_row_is_of_a_code_that_nobody_says() -> None:
    assert sorted(set(ROWS) - set(SAID)) == []


@pytest.mark.parametrize("code", sorted(code for code in SAID if SAID[code]))
def test_a_row_begins_with_the_sentence_as_it_is_said(code: str) -> None:
    """What differs from case to case is left out of the row as ``…``, and is no constant in the source."""
    parts = [part.strip(" .:;,") for part in re.split(r"…|(?<=\.) (?=[A-Z])", ROWS.get(code, ""))]
    told = " ".join(sorted(SAID[code]))
    everything = "\n".join(_words_of_the_source())
    assert any(len(part) > 3 and (part in told or part in everything) for part in parts), (
        f"the row of `{code}` says {ROWS.get(code)!r}, the source {sorted(SAID[code])}"
    )


@pytest.mark.parametrize("code", list(Close), ids=lambda code: code.name)
def test_every_reason_to_close_a_link_has_its_row(code: Close) -> None:
    assert re.search(rf"^\| {code.value} \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize("code", sorted(SAID))
def test_the_page_tells_every_code_in_chinese(code: str) -> None:
    assert re.search(rf"^  {code}: \{{", CHINESE, re.MULTILINE), f"web/src/messages/faults.zh.ts has nothing for {code}"


def test_the_page_tells_every_hint_of_an_agent_in_chinese() -> None:
    """By its code, or by its words where a code has several."""
    faults = [one for one in vars(words).values() if isinstance(one, Fault)]
    faults += [words.driver_fault(999, "start")[1], words.gpu_fault("error", 999)[1]]
    faults += [words.of_windows(words.NO_LIBRARY)]
    of_code = set(re.findall(r'^  (\w+): { message: "[^"]+", hint:', CHINESE, re.MULTILINE))
    several = [one.hint for one in faults if one.code not in of_code]
    assert len(several) > 8
    assert [hint for hint in several if f'  "{hint}":' not in CHINESE] == []


def test_every_row_says_what_to_do() -> None:
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            assert all(cell.strip() for cell in line.strip("|").split("|")), line


def test_the_page_is_found() -> None:
    assert "docs/troubleshooting.md" in (ROOT / "README.md").read_text(encoding="utf-8")
