"""``gpumon nodes``, ``top`` and ``find``: the fleet in a terminal, as a hub tells it. :mod:`gpumon.cli` is where they
hang.

They end with status 3 where the hub cannot be reached or refuses. Each command imports what it needs.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import urldefrag, urlsplit

import click

from gpumon.commands import PIPE_COLUMNS, colors, quiet
from gpumon.config import hub_url_fault
from gpumon.errors import HubError, UsageError
from gpumon.model import NodeStatus
from gpumon.options import PATH
from gpumon.quantities import bytes_of, seconds_of
from gpumon.settings import given_token

if TYPE_CHECKING:
    from gpumon.client.controls import Fold
    from gpumon.client.listing import Page
    from gpumon.client.rows import Order
    from gpumon.client.stream import Hub

NOT_WRITTEN: Final = 2
NO_HUB: Final = 3
ORDERS: Final = ("node", "util", "memory", "temperature", "power", "user", "model", "state")


def _read_by(read: Callable[[str], float]) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """A callback for an option whose text ``read`` understands."""

    def callback(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
        try:
            return None if text is None else read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return callback


def hub_options(command: Callable[..., int]) -> Callable[..., int]:
    """Which hub is looked at, and how: options of the command, which get to it as ``hub`` and ``page``."""

    @wraps(command)
    def with_hub(url: str, token_file: str | None, tls_ca: str | None, color: str, **options: object) -> int:
        quiet(click.get_current_context())
        return command(hub=_hub(url, token_file, tls_ca), page=_page(color), **options)

    found: Callable[..., int] = with_hub
    for option in reversed(_HUB_OPTIONS):
        found = option(found)
    return found


_HUB_OPTIONS: Final = (
    click.option(
        "--hub",
        "url",
        metavar="URL",
        default="http://127.0.0.1:8080",
        show_default=True,
        envvar="GPUMON_HUB",
        show_envvar=True,
        help="The hub that is asked.",
    ),
    click.option(
        "--token-file",
        type=PATH,
        metavar="FILE",
        envvar="GPUMON_TOKEN_FILE",
        show_envvar=True,
        help="The hub's token, where it shows nothing without; or itself in GPUMON_TOKEN.",
    ),
    click.option(
        "--tls-ca",
        type=PATH,
        metavar="FILE",
        envvar="GPUMON_TLS_CA",
        show_envvar=True,
        help="Authorities to believe, in PEM.  [default: those of this machine]",
    ),
    click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        envvar="GPUMON_COLOR",
        show_envvar=True,
        help="Colours; auto: on a terminal, unless NO_COLOR is set, or wherever FORCE_COLOR is.",
    ),
)
SIZE: Final = _read_by(bytes_of)
TIME: Final = _read_by(seconds_of)
TAG: Final = click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="Only nodes with this tag; with each, where it is given again."
)
NAMES: Final = click.argument("names", nargs=-1, metavar="[NAME]...")


@click.command()
@NAMES
@TAG
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(get_args(NodeStatus)),
    help="Only nodes of this status; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, envvar="GPUMON_NODES_JSON", show_envvar=True, help="One JSON array.")
@hub_options
def nodes(
    *,
    names: tuple[str, ...],
    tags: tuple[str, ...],
    statuses: tuple[NodeStatus, ...],
    as_json: bool,
    hub: "Hub",
    page: "Page",
) -> int:
    """Show the nodes of a hub, a line each, and what is wrong with them.

    NAME is a part of a node's name or alias, or a pattern such as 'h200-*'. With --json, nodes are as in the hub's API.
    Ends with status 3 if the hub cannot be reached or refuses.
    """
    from gpumon.client import listing
    from gpumon.client.choice import Choice

    return _run(listing.run(page, hub, Choice(names, tags, statuses), as_json=as_json))


@click.command()
@NAMES
@TAG
@click.option("--filter", "words", metavar="WORDS", default="", help="Only GPUs whose line has each of these words.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(ORDERS),
    default="node",
    show_default=True,
    envvar="GPUMON_TOP_SORT",
    show_envvar=True,
    help="What comes first: the hub's order, or the most of this.",
)
@click.option("--reverse", "is_reversed", is_flag=True, help="The other way round.")
@click.option(
    "--by",
    "fold",
    type=click.Choice(["auto", "gpu", "node"]),
    default="auto",
    show_default=True,
    envvar="GPUMON_TOP_BY",
    show_envvar=True,
    help="What a row is; auto: a GPU, where there are up to 200.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0, 60),
    default=1.0,
    show_default=True,
    envvar="GPUMON_TOP_INTERVAL",
    show_envvar=True,
    help="Least seconds between two pictures.",
)
@click.option("--once", is_flag=True, help="One picture, and no more.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    envvar="GPUMON_TOP_JSON",
    show_envvar=True,
    help="A JSON array of GPUs; without --once one a line, whenever something has changed.",
)
@hub_options
def top(
    *,
    names: tuple[str, ...],
    tags: tuple[str, ...],
    words: str,
    order: "Order",
    is_reversed: bool,
    fold: "Fold",
    interval: float,
    once: bool,
    as_json: bool,
    hub: "Hub",
    page: "Page",
) -> int:
    """Show every GPU of a hub's fleet, live. The key h shows the keys, q quits.

    NAME is a part of a node's name or alias, or a pattern such as 'h200-*'. Without a terminal it is shown once.
    Ends with status 3 if the hub cannot be reached or refuses.
    """
    from gpumon.client import top as fleet
    from gpumon.client.choice import Choice
    from gpumon.client.controls import Controls

    choice = Choice(names, tags)
    controls = Controls(order, words, is_reversed=is_reversed, fold=fold)
    if as_json and not once:
        return _run(fleet.follow(page, hub, choice, controls, interval), is_endless=True)
    if once or as_json or not _is_terminal():
        return _run(fleet.once(page, hub, choice, controls, as_json=as_json))
    return _run(fleet.live(page, hub, choice, controls, interval), is_endless=True)


@click.command()
@click.option("--gpus", type=click.IntRange(1, 128), default=1, show_default=True, help="So many, all on one node.")
@click.option("--memory", metavar="SIZE", default="0M", callback=SIZE, help="Free memory of each, such as 40GiB.")
@click.option("--model", default="", metavar="TEXT", help="What occurs in the name of each, such as H100.")
@click.option("--mig", "is_slice", is_flag=True, help="A slice of a GPU that is partitioned (MIG), not a whole one.")
@TAG
@click.option("--node", "names", multiple=True, metavar="NAME", help="Only such nodes: a part of a name, or a pattern.")
@click.option("--wait", "waits", is_flag=True, help="Wait until there are some.")
@click.option("--timeout", metavar="TIME", callback=TIME, help="With --wait: for so long, such as 30m or 2h.")
@click.option(
    "--settle",
    metavar="TIME",
    default="3s",
    show_default=True,
    callback=TIME,
    envvar="GPUMON_FIND_SETTLE",
    show_envvar=True,
    help="With --wait: for how long they must have been free.",
)
@click.option("--shell", is_flag=True, help="Write it for eval: export GPUMON_HOST=... CUDA_VISIBLE_DEVICES=...")
@click.option("--json", "as_json", is_flag=True, envvar="GPUMON_FIND_JSON", show_envvar=True, help="One JSON object.")
@hub_options
def find(
    *,
    gpus: int,
    memory: int,
    model: str,
    is_slice: bool,
    tags: tuple[str, ...],
    names: tuple[str, ...],
    waits: bool,
    timeout: float | None,
    settle: float,
    shell: bool,
    as_json: bool,
    hub: "Hub",
    page: "Page",
) -> int:
    """Find a node with free GPUs: its host, and the CUDA_VISIBLE_DEVICES for them.

    They are of one model, if possible, on the node with the fewest free GPUs left over. Nothing is reserved.
    Ends with status 0 if there are some, 1 if there are none, now or within --timeout, and 3 if the hub cannot be
    reached or refuses.
    """
    from gpumon.client import find as finding
    from gpumon.client.choice import Choice
    from gpumon.client.offers import Wanted

    if is_slice and gpus > 1:
        raise UsageError(f"--gpus: {gpus} with --mig; allowed: 1, since a process sees one slice only")
    if timeout is not None and not waits:
        raise UsageError("--timeout: it goes with --wait")
    if shell and as_json:
        raise UsageError("--shell, --json: one of the two")
    for number in (signal.SIGTERM, signal.SIGINT):  # 0 would mean that there are some
        signal.signal(number, lambda number, _: os._exit(128 + number))
    wanted = Wanted(gpus, memory, model, is_slice, Choice(names, tags, ("online",)))
    form: finding.Form = "json" if as_json else "shell" if shell else "line"
    if waits:
        return _run(finding.wait(page, hub, wanted, form, settle, timeout), is_answer=True)
    return _run(finding.now(page, hub, wanted, form), is_answer=True)


def _run(main: Coroutine[Any, Any, int], *, is_answer: bool = False, is_endless: bool = False) -> int:
    """Run a command; the exit status. ``is_answer``: it says what was found, so 0 must not mean anything else;
    ``is_endless``: a signal is how it ends, and not a reason why there is nothing.
    """
    from gpumon.lifecycle import run

    async def guarded() -> int:
        try:
            return await main
        except HubError as error:
            click.echo(f"gpumon: {error}", err=True)
            return NO_HUB
        except BrokenPipeError:  # as with "| head": whoever read has had enough
            return 128 + signal.SIGPIPE if is_answer else 0
        except OSError as error:  # a full disk must not look like an answer
            click.echo(f"gpumon: standard output: {error.strerror or error}", err=True)
            return NOT_WRITTEN

    return run(guarded(), is_answer=not is_endless)


def _hub(url: str, token_file: str | None, tls_ca: str | None) -> "Hub":
    from gpumon.certificates import pin_of, trusting
    from gpumon.client.stream import Hub

    if fault := hub_url_fault(url):
        raise UsageError(f"--hub: {url!r} {fault}")
    tls = trusting(tls_ca, pin_of(url)) if urlsplit(url).scheme in ("https", "wss") else None
    return Hub(urldefrag(url).url, given_token(token_file), tls)


def _page(color: str) -> "Page":
    from gpumon.client.listing import Page
    from gpumon.terminal import writable, write

    if sys.stdout is None:  # as with ">&-"
        raise UsageError("standard output: it is closed; allowed: a terminal, a pipe or a file")
    ascii_only = _is_ascii_only()

    def put(text: str) -> None:
        write(writable(text, "ascii") if ascii_only else text)

    def say(text: str) -> None:
        click.echo(f"gpumon: {text}", err=True)

    return Page(put, say, lambda: shutil.get_terminal_size((PIPE_COLUMNS, 24)), colors(color), ascii_only)


def _is_terminal() -> bool:
    """Whether a person sees what is drawn, and can press keys."""
    return (
        sys.stdin is not None
        and sys.stdin.isatty()
        and sys.stdout.isatty()
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def _is_ascii_only() -> bool:
    """Whether the terminal shows no other signs, as the locale says. Python itself takes the locale C for UTF-8."""
    encoding = (sys.stdout.encoding or "utf-8").lower().replace("-", "")
    return encoding != "utf8" or os.environ.get("LC_ALL") in ("C", "POSIX")
