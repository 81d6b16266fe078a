"""The REST side of a hub with simulated nodes, against its own schema: what schemathesis thinks of is answered so."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import program

LEFT_OUT = {
    "/api/events": "it never ends; tests/hub/test_live.py has what it is asked wrongly",
}
NOT_CHECKED = {
    "positive_data_acceptance": "a schema cannot say that from must not be later than to",
}
REFUSALS = """\
[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
"""
"""The tool's own list, and 413: what is longer than a body may be is refused before anybody reads what is in it."""


@pytest.mark.timeout(240)
def test_whatever_is_asked_the_answer_is_as_the_schema_says(tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(REFUSALS)
    with program("hub", "--port", "0", "--host", "127.0.0.1", folder=tmp_path) as hub:
        url = f"http://127.0.0.1:{hub.port('hub')}"
        with program("agent", "--port", "0", "--host", "127.0.0.1", "--simulate", "2", "--hub", url) as agent:
            agent.port("agent")
            hub.wait_for("connected")
            tested = subprocess.run(
                [
                    *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--checks=all"),
                    *(f"--exclude-checks={','.join(NOT_CHECKED)}", *(f"--exclude-path={path}" for path in LEFT_OUT)),
                    *("--phases=coverage,fuzzing", "--max-examples=10", "--request-timeout=30", "--no-color"),
                    "--generation-deterministic",  # a fault that chance finds is no fault of the change that is tested
                ],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert " 0 generated" not in tested.stdout
    assert "fault of gpumon's own" not in hub.said
