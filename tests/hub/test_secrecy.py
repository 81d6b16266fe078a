"""A node that tells back what it was told in confidence: its token is in nothing that a viewer or a log hears."""

import json
import logging
from pathlib import Path

import pytest

from gpumon.config import Config, HubSection, NodeEntry
from gpumon.errors import PollError, WireError
from gpumon.hub import check
from gpumon.hub.fetch import MAX_SAID, fetching
from gpumon.hub.secrecy import HIDDEN, unreported, unsaid
from gpumon.model import Fault, Gpu, Process, Report
from gpumon.resolver import Resolver
from gpumon.wire import MAX_SAID as MOST_OF_AN_ERROR
from gpumon.wire import encode
from tests.hub.strangers import Handler, answer, stranger
from tests.running import running_hub

TOKEN = 'tell"no\\one-4711'
IN_JSON = json.dumps(TOKEN)[1:-1]


def escaped(text: str) -> str:
    """The same in JSON, where whoever writes it wants it to look otherwise."""
    return "".join(f"\\u{ord(sign):04x}" for sign in text)


ECHOES: dict[str, Handler] = {
    "a field": answer(f'{{"node": "{IN_JSON}", "gpus": []}}'.encode()),
    "a field, escaped": answer(f'{{"node": "x{escaped(TOKEN)}", "gpus": []}}'.encode()),
    "a field far inside": answer(
        f'{{"node": "x", "gpus": [{{"index": 0, "processes": [{{"pid": 1, "name": "{IN_JSON}"}}]}}]}}'.encode()
    ),
    "the name of a reason": answer(
        f'{{"node": "x", "gpus": [{{"index": 0, "unavailable": {{"{IN_JSON}": "error"}}}}]}}'.encode()
    ),
    "an old program's field": answer(f'{{"node_name": "{IN_JSON}", "gpus": []}}'.encode()),
    "text": answer(f"I was told {TOKEN}\n".encode(), "500 Oops"),
    "text that is cut": answer(f"{'x' * (MAX_SAID - 9)}{TOKEN}".encode(), "500 Oops"),
    "an encoding": answer(b"{}", headers=f"Content-Encoding: {TOKEN}\r\n"),
    "an encoding that is cut": answer(b"{}", headers=f"Content-Encoding: {'x' * (MAX_SAID - 9)}{TOKEN}\r\n"),
    "a header that is none": answer(b"{}", headers=f"{TOKEN}\r\n"),
    "a length that is none": answer(b"{}", headers=f"Transfer-Encoding: {TOKEN}\r\n"),
    "the status": answer(b"{}", f"{TOKEN} OK"),
    "a value that is not allowed": answer(f'{{"node": "x", "status": "{IN_JSON}"}}'.encode()),
    "such a value, cut": answer(f'{{"node": "x", "status": "{"x" * (MOST_OF_AN_ERROR - 40)}{IN_JSON}"}}'.encode()),
}


@pytest.mark.parametrize("handler", ECHOES.values(), ids=ECHOES)
async def test_a_token_that_is_told_back_is_shown_to_nobody(handler: Handler, caplog: pytest.LogCaptureFixture) -> None:
    asked = False

    async def echo(*streams: object) -> None:
        nonlocal asked
        asked = True
        await handler(*streams)  # type: ignore[arg-type]

    async with stranger(echo) as port:
        entry = NodeEntry(name="n", host="127.0.0.1", port=port, token=TOKEN)
        with caplog.at_level(logging.DEBUG):
            async with running_hub(Config(nodes=[entry], hub=HubSection(poll_interval_seconds=0.2))) as hub:
                node = await hub.node_when("n", lambda node: node["report"] or node["error"])
        said: list[str] = []
        config = Config(nodes=[entry])
        await check.run(Path("config.json"), config, said.append, 400, color=False, as_json=True)
        assert asked
    shown = json.dumps(node) + "".join(said) + caplog.text
    for piece in (TOKEN, IN_JSON, json.dumps(IN_JSON)[1:-1], TOKEN[:6], IN_JSON[:6]):
        assert piece not in shown


@pytest.mark.parametrize(
    "page",
    [
        f'DCGM_FI_DEV_GPU_TEMP{{gpu="0",UUID="a",modelName="{TOKEN}"}} 1\n',
        f'DCGM_FI_DEV_GPU_TEMP{{gpu="0",UUID="a",Hostname="{IN_JSON}"}} 1\n',
        f'DCGM_FI_DEV_GPU_TEMP{{gpu="{TOKEN}\n',
        f'DCGM_FI_DEV_GPU_TEMP{{gpu="0",xxxxxxxxxxxxxx="{TOKEN}"\n',
    ],
)
async def test_nor_what_another_program_tells_back(page: str) -> None:
    async with stranger(answer(page.encode())) as port, fetching(Resolver()) as fetcher:
        entry = NodeEntry(name="n", host="127.0.0.1", port=port, token=TOKEN, kind="dcgm-exporter")
        try:
            shown = encode((await fetcher.report(entry)).report).decode()
        except PollError as error:
            shown = error.message + (error.hint or "")
        for piece in (TOKEN, IN_JSON, repr(TOKEN)[1:-1], TOKEN[:6]):
            assert piece not in shown


def test_what_is_hidden_and_what_is_left_as_it_is() -> None:
    assert unsaid("nothing", None) == "nothing"
    assert unsaid("of secret-4711, and more of secret-4711", "secret-4711") == f"of {HIDDEN}, and more of {HIDDEN}"
    assert unsaid("cut off in secret-4.", "secret-4711") == f"cut off in {HIDDEN}."
    assert unsaid("what ends in sec", "secret-4711") == "what ends in sec"
    report = Report(node="n", gpus=[Gpu(index=0, processes=[Process(pid=12345678, name="a")])])
    assert unreported(report, None) is report
    assert unreported(report, "not-in-it") is report
    assert unreported(report, "12345678") == report  # a number is none of its words
    assert unreported(report, "processes") == report  # nor is the name of a field


def test_a_report_stays_one_without_the_secret_in_it() -> None:
    report = Report(node="a-secret", error=Fault(code="x", message="a-secret, a-secret"), gpus=[Gpu(index=7)])
    hidden = unreported(report, "a-secret")
    assert b"a-secret" not in encode(hidden)
    assert hidden.gpus == report.gpus
    with pytest.raises(WireError, match="it tells the token"):
        unreported(Report(node="n", status="driver_mismatch"), "driver_mismatch")
