"""``gpumon agents``: who has joined a hub and who waits, asked of the hub that runs, with its token."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import click
import msgspec

from gpumon import statefile
from gpumon.certificates import distrust, pin_of, trusting
from gpumon.config import hub_url_fault
from gpumon.errors import UsageError
from gpumon.model import Problem
from gpumon.options import PATH, json_option, setting, state_dir_option
from gpumon.settings import TOKEN_VARIABLE, given_token, state_folder
from gpumon.terminal import Cell, Column, Grid, line, write
from gpumon.text import one_line

if TYPE_CHECKING:
    from gpumon.hub.openapi import Agents, JoinedAgent, WaitingAgent

SECONDS: Final = 10.0
MOST_SAID: Final = 300
ELSEWHERE: Final = "; where a hub listens at another port, --hub or GPUMON_HUB names it"
MAX_BYTES: Final = 4 * 1024 * 1024
JOINED: Final = tuple(Column(head, right=False) for head in ("NODE", "STATE", "SINCE", "BY", "ADDRESS", "CODE"))
WAITING: Final = tuple(Column(head, right=False) for head in ("NODE", "WAITS SINCE", "LAST TRY", "ADDRESS", "CODE"))
WIDE: Final = 10_000
"""Codes are there to be compared and copied: no line is cut."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for this hub and for no other."""

    def redirect_request(self, *_: object) -> None:
        return None


class Administration:
    """Asks the hub at ``url``, with ``token``; by https as ``tls`` says whom to believe."""

    def __init__(self, url: str, token: str, tls: ssl.SSLContext) -> None:
        self._url = url
        self._token = token
        https = urllib.request.HTTPSHandler(context=tls)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect(), https)

    def agents(self) -> "Agents":
        """Who has joined, and who waits."""
        from gpumon.hub.openapi import Agents

        try:
            return msgspec.json.decode(self._ask("GET", "/api/agents"), type=Agents)
        except (msgspec.MsgspecError, UnicodeError):
            raise click.ClickException(f"{self._url}: does not answer as a hub does: is this one?") from None

    def admit(self, agent: str) -> None:
        """Let one in."""
        self._ask("POST", f"/api/agents/{quote(agent, safe='')}/admit")

    def revoke(self, agent: str) -> None:
        """Show one out."""
        self._ask("DELETE", f"/api/agents/{quote(agent, safe='')}")

    def _ask(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(  # noqa: S310  (the scheme was looked at)
            self._url + path, method=method, headers={"Authorization": f"Bearer {self._token}"}
        )
        try:
            with self._opener.open(request, timeout=SECONDS) as answer:
                found: bytes = answer.read(MAX_BYTES)
                return found
        except urllib.error.HTTPError as error:
            with error:
                raise click.ClickException(f"{self._url}: {_detail(error)}") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, ssl.SSLError):
                raise click.ClickException(f"{self._url}: {distrust(reason)}") from None
            said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            advice = ELSEWHERE if isinstance(reason, ConnectionRefusedError) else ""
            said = f"{one_line(said, MOST_SAID)}{advice}"
            raise click.ClickException(f"{self._url}: the hub cannot be asked: {said}") from None


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        detail = msgspec.json.decode(error.read(MAX_BYTES), type=Problem).detail
    except (msgspec.MsgspecError, UnicodeError, OSError, HTTPException):
        detail = None
    return f"refused with status {error.code}" + (f": {one_line(detail, MOST_SAID)}" if detail else "")


@click.group()
@setting(
    "--hub",
    "url",
    metavar="URL",
    default="http://127.0.0.1:8080",
    show_default=True,
    variable="GPUMON_HUB",
    help="The hub that is asked.",
)
@state_dir_option("Where a hub on this machine keeps its token, unless GPUMON_TOKEN has it.")
@setting(
    "--tls-ca",
    type=PATH,
    metavar="FILE",
    variable="GPUMON_TLS_CA",
    help="Authorities to believe, in PEM.  [default: those of this machine]",
)
@click.pass_context
def agents(context: click.Context, url: str, state_dir: str | None, tls_ca: str | None) -> None:
    """Show who has joined a hub; admit who waits; revoke.

    The hub's token comes from GPUMON_TOKEN, or from the state folder of a hub on this machine.
    """
    if fault := hub_url_fault(url):
        raise UsageError(f"--hub: {url!r} {fault}")
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    where = f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    tls = trusting(tls_ca, pin_of(url))
    context.obj = lambda: Administration(where, _token(parts.hostname or "", state_folder(state_dir)), tls)


def _token(host: str, folder: Path | None) -> str:
    """What an admin has. That of this machine's own hub is told to nobody else.

    Raises:
        UsageError: there is none.
    """
    from gpumon.hub.auth import TOKEN_FILE
    from gpumon.limits import is_loopback

    given = given_token(None)
    if given is not None:
        return given
    if host != "localhost" and not is_loopback(host):
        raise UsageError(f"{TOKEN_VARIABLE}: missing; it must be given for a hub on another machine")
    if folder is None:
        raise UsageError("--state-dir: missing; it must be given to a user without a home")
    path = folder / TOKEN_FILE
    try:
        found = statefile.read(path)
    except OSError as error:
        raise UsageError(f"{path}: the hub's token cannot be read: {error.strerror or error}") from None
    if found is None:
        raise UsageError(f"{path}: there is no token of a hub; --state-dir names the hub's folder")
    return found.decode(errors="replace").strip()


Asking = Callable[[], Administration]


@agents.command("list")
@json_option("GPUMON_AGENTS_JSON")
@click.pass_obj
def list_agents(asking: Asking, *, as_json: bool) -> None:
    """Show who has joined, and who waits to be admitted."""
    found = asking().agents()
    if as_json:
        write(msgspec.json.encode(found).decode() + "\n")
        return
    lines = _table(JOINED, [_joined(one) for one in found.joined])
    if found.waiting:
        lines += [*([""] if lines else []), *_table(WAITING, [_waiting(one) for one in found.waiting])]
    write("".join(f"{one}\n" for one in lines or ["No agent has joined, and none waits."]))


@agents.command()
@click.argument("agent")
@click.pass_obj
def admit(asking: Asking, agent: str) -> None:
    """Let in the agent that waits under this code; or that was revoked, under its code, id or node's name.

    Compare the code with the one in the agent's log: they are the same if nobody sits in between.
    """
    asking().admit(agent)
    click.echo(f"{agent}: admitted; it comes in at its next try, within a minute")


@agents.command()
@click.argument("agent")
@click.pass_obj
def revoke(asking: Asking, agent: str) -> None:
    """Show out the agent that has joined, or waits, under this code, id or node's name.

    Its link is cut at once, and its secret is worth nothing any more. Somebody who has the join token can join anew: to
    prevent that as well, delete the file join-token in the hub's state folder and send SIGHUP to the hub.
    """
    asking().revoke(agent)
    click.echo(f"{agent}: revoked")


def _joined(one: "JoinedAgent") -> list[str]:
    address = one.address or "-"
    return [one.node, one.state, one.revoked_at or one.admitted_at, one.admitted_by, address, one.code]


def _waiting(one: "WaitingAgent") -> list[str]:
    node = one.node + (" (a name that another agent has)" if one.replaces else "")
    return [node, one.first_seen_at, one.last_seen_at, one.address or "-", one.code]


def _table(columns: Sequence[Column], rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    cells = [[Cell(text) for text in row] for row in rows]
    shown = list(range(len(columns)))
    widths = Grid(columns, cells, headed=True).widths(shown, WIDE)
    heads = [Cell(column.head) for column in columns]
    return [line(row, widths, color=False) for row in [heads, *cells]]
