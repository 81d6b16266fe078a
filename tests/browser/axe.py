"""axe-core in a page: what keeps people out who see, hear or move otherwise."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

SOURCE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = ("serious", "critical")


def grave_faults(page: Page) -> list[str]:
    """What axe finds serious or critical on the page as it is now, each in a line."""
    if not SOURCE.is_file():
        pytest.fail(f"{SOURCE} is missing: 'make page-test' installs it")
    if page.evaluate("typeof globalThis.axe") == "undefined":
        page.evaluate(SOURCE.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']}: {one['help']}: {place['html'][:160]} {place.get('failureSummary', '')[:400]}"
        for one in found
        if one["impact"] in GRAVE
        for place in one["nodes"][:3]
    ]
