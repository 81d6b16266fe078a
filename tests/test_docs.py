"""What the documentation lists is complete."""

import re
from pathlib import Path
from typing import get_args

import pytest

from gpumon.agent.boards import BOARDS
from gpumon.agent.scenario import FAULTS
from gpumon.agent.words import MEASURED, REASONS
from gpumon.model import Reason

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.mark.parametrize("field", [name for name in MEASURED if name != "processes_truncated"])
def test_every_field_of_a_gpu_is_explained(field: str) -> None:
    rows = [row for row in (DOCS / "gpus.md").read_text(encoding="utf-8").splitlines() if row.startswith("| `")]
    assert sum(f"`{field}`" in row.split("|")[1] for row in rows) == 1


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_is_explained_with_its_codes(reason: str) -> None:
    text = (DOCS / "gpus.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| `{reason}` |"))
    for code, meaning in REASONS.items():
        assert (f" {code} " in row) == (meaning == reason), code


@pytest.mark.parametrize("word", [*BOARDS, *FAULTS])
def test_every_board_and_fault_that_can_be_simulated_is_explained(word: str) -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8").partition("## Simulated GPUs")[2]
    assert f"`{word}`" in text or f"`fault={word}" in text


def test_every_promise_names_tests_that_are_there() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert len(named) > 5
    assert [one for one in sorted(named) if not (ROOT / one).exists()] == []
