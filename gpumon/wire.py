"""The words that agent and hub agree on: push protocol ``gpumon.v1``.

A WebSocket with the subprotocol :data:`SUBPROTOCOL`; every message is one text frame holding one JSON
object whose ``type`` names it.

====================  =========  ==========================================================
agent says            hub says   meaning
====================  =========  ==========================================================
:class:`Hello`                   first word on every connection: who I am
\\                     Challenge  prove it: said where the agent has joined, must join, or insists
:class:`Proof`                   the answer to that, by the secret that agent and hub share
\\                     Welcome    you may report; this is the last sequence I have of this boot; and
                                 the hub's own proof, where it has asked for the agent's
:class:`Gap`                     these reports will never come, for there was no room to keep them
:class:`ReportFrame`             one report, in order; ``late`` when an earlier connection failed
                                 to deliver it; ``ahead`` when it overtakes those that are late
:class:`Heartbeat`               nothing new, still here (said after 5 s of silence)
\\                     Ack        every report up to this sequence is taken: forget it
====================  =========  ==========================================================

Reports are delivered in order and acknowledged cumulatively, so that what was taken is one number. After a cut
the newest report is told at once all the same, ``ahead``: that is for the present only, it comes again in its
turn, and it moves no acknowledgement. Late ones follow no faster than ``late_reports_per_second`` of
:class:`Welcome`. Taking a report or a gap twice changes nothing.

**Who is who.** An agent that comes from another machine must have joined, unless the hub is open to all. What it
says in ``hello`` is believed once it is proven (:mod:`gpumon.handshake`): by the secret that it shares with the hub
since it joined, or, to join, by the hub's join token as well, which never crosses the wire. An agent that has joined,
or has a token, ``insists``: it says nothing more to a hub that does not prove itself in turn. The hub gives the same
answer to an agent that it does not know and to one whose proof is wrong.

Protocol 1 has neither challenge nor proof: its agents reach hubs on their own machine, and those that are open.

Each side names the newest protocol that it speaks, and the agent the oldest as well; the hub chooses the newest
that both speak (:func:`common_protocol`) and says so in :class:`Welcome`, or says which side to update.

A hub that has too much to do refuses the handshake with status 503 and a ``Retry-After`` in seconds.

Either side may close. An agent that ends says so with 1001. The hub's code tells the agent how soon to come
back, never to stay away for good:

====  ======================  ===============================================================
code  name                    the agent
====  ======================  ===============================================================
1000  normal closure          comes back after the usual back-off
1009  message too big         drops the report that was refused, the usual back-off
1012  :attr:`GOING_AWAY`      the hub ends or restarts: comes back after the usual back-off
4000  :attr:`BAD_MESSAGE`     a message was not in these words: drops that report, the usual
                              back-off; before welcome: comes back slowly
4001  :attr:`UNAUTHORISED`    it has not joined: comes back slowly
4003  :attr:`REVOKED`         an admin has revoked it: comes back slowly
4008  :attr:`TOO_SLOW`        did not speak within a deadline: the usual back-off
4009  :attr:`REPLACED`        a newer connection of the same agent took over: the usual back-off
4010  :attr:`PROTOCOL`        no common protocol version: comes back slowly
4011  :attr:`NAME_TAKEN`      another living agent has this name: comes back slowly
4012  :attr:`COPIED`          another machine has the same agent id, as after cloning a disk: comes
                              back slowly
4013  :attr:`TOO_MANY`        the hub's limit of nodes, or of new names, is reached: comes back slowly
4014  :attr:`TOO_FAST`        it says more than its interval explains: comes back slowly
====  ======================  ===============================================================

msgspec reads, and turns our own types into bytes; orjson puts bodies together from those bytes.
"""

from enum import IntEnum
from typing import Annotated, TypeVar

import msgspec
import orjson
from msgspec import Meta, Struct

from gpumon.errors import WireError
from gpumon.handshake import Key, Mac, Nonce
from gpumon.model import MAX_MIG_DEVICES, MAX_NODE_PROCESSES, Count, Name, NodeName, Quantity, Report, Text
from gpumon.text import is_plain_json, one_line, printable_json

SUBPROTOCOL = "gpumon.v1"
PROTOCOL = 2
OLDEST_PROTOCOL = 1
GOODBYE = 1001
LATE_REPORTS_PER_SECOND = 50
MAX_REPORT_BYTES = 256 * 1024
"""Of a message of an agent: what is larger is refused ..."""
MAX_MESSAGE_BYTES = 1024 * 1024
"""... and what is larger still ends the connection."""
HEARTBEAT_SECONDS = 5.0
MAX_SAID = 300

Port = Annotated[int, Meta(ge=1, le=65535)]


class Close(IntEnum):
    """Why a connection was closed. See the table above."""

    GOING_AWAY = 1012
    BAD_MESSAGE = 4000
    UNAUTHORISED = 4001
    REVOKED = 4003
    TOO_SLOW = 4008
    REPLACED = 4009
    PROTOCOL = 4010
    NAME_TAKEN = 4011
    COPIED = 4012
    TOO_MANY = 4013
    TOO_FAST = 4014


SLOW_RETRY = frozenset(
    {
        Close.BAD_MESSAGE,
        Close.UNAUTHORISED,
        Close.REVOKED,
        Close.PROTOCOL,
        Close.NAME_TAKEN,
        Close.COPIED,
        Close.TOO_MANY,
        Close.TOO_FAST,
    }
)
"""Codes after which coming back soon cannot help."""

REPORT_REFUSED = frozenset({1009, Close.BAD_MESSAGE})
"""Codes that, once the hub has said welcome, condemn the report after the last one that it has."""


class Hello(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="hello"):
    """Who speaks. ``port`` is where the agent itself serves ``/gpu-info``, if it does.

    ``agent_id`` is the agent's identity, random and kept over restarts; ``machine_id`` tells machines apart (a
    hash, never the machine's own id), so that a copied disk is seen to be one. ``key`` is its public key and ``nonce``
    of this connection alone; ``insists``: the hub must prove itself, or hears nothing more.
    """

    protocol: Count = PROTOCOL
    oldest_protocol: Count = OLDEST_PROTOCOL
    agent_id: Name | None = None
    machine_id: Name | None = None
    key: Key | None = None
    nonce: Nonce | None = None
    insists: bool = False
    agent_version: Text
    node: NodeName
    hostname: Text
    boot_id: Name
    interval_seconds: Quantity
    port: Port | None = None
    simulated: bool = False


class Challenge(Struct, frozen=True, kw_only=True, tag_field="type", tag="challenge"):
    """The hub's public key, and a nonce of this connection alone."""

    key: Key
    nonce: Nonce


class Proof(Struct, frozen=True, kw_only=True, tag_field="type", tag="proof"):
    """``proof`` by the secret that agent and hub share; ``token_proof``, to join, by the hub's join token."""

    proof: Mac
    token_proof: Mac | None = None


class ReportFrame(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="report"):
    """One report. ``late``: it should have come earlier; ``ahead``: earlier ones are still to come."""

    report: Report
    late: bool = False
    ahead: bool = False


class Gap(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="gap"):
    """Of the reports ``first`` to ``last``, ``count`` were dropped for want of room. A gap that is told again
    with the same ``first`` has grown: the newest figures hold.
    """

    first: Count
    last: Count
    count: Count


class Heartbeat(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="heartbeat"):
    """A sign of life with no news."""


class Welcome(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="welcome"):
    """The hub takes reports. ``last_sequence`` is the highest it has of the greeted ``boot_id``, or 0; ``proof`` is the
    hub's, where there was a challenge.
    """

    protocol: Count = PROTOCOL
    hub_version: Text
    last_sequence: Count = 0
    late_reports_per_second: Quantity = LATE_REPORTS_PER_SECOND
    proof: Mac | None = None


class Ack(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag="ack"):
    """Every report up to and including ``sequence`` is taken. ``refused``: but for one, and why."""

    sequence: Count
    refused: Text | None = None


FromAgent = Hello | Proof | ReportFrame | Heartbeat | Gap
FromHub = Welcome | Challenge | Ack


class _Numbered(Struct, frozen=True):
    sequence: Count | None = None


class _Envelope(Struct, frozen=True):
    report: _Numbered = _Numbered()
    ahead: bool = False


_envelope: msgspec.json.Decoder[_Envelope] = msgspec.json.Decoder(_Envelope)
_from_agent: msgspec.json.Decoder[FromAgent] = msgspec.json.Decoder(FromAgent)
_from_hub: msgspec.json.Decoder[FromHub] = msgspec.json.Decoder(FromHub)
_report: msgspec.json.Decoder[Report] = msgspec.json.Decoder(Report)
_encoder = msgspec.json.Encoder()

T = TypeVar("T")


def decode_from_agent(data: bytes) -> FromAgent:
    """What an agent said, its text fit to be shown. Raises :class:`WireError` for what is not in these words."""
    message = decode_stranger(_from_agent, data)
    if type(message) is ReportFrame:
        check_counts(message.report)
    return message


def sequence_of(data: bytes) -> int:
    """Which report will never come if this message is not read; 0 where it is none, or comes again in its turn.

    Raises :class:`WireError`.
    """
    envelope = decode(_envelope, data)
    return 0 if envelope.ahead else envelope.report.sequence or 0


def decode_from_hub(data: bytes | str) -> FromHub:
    """What a hub said. Raises :class:`WireError` for anything that is not in these words."""
    return decode(_from_hub, data)


def decode_report(data: bytes) -> Report:
    """The answer of ``GET /gpu-info``, its text fit to be shown. Raises :class:`WireError`."""
    report = decode_stranger(_report, data)
    check_counts(report)
    return report


def check_counts(report: Report) -> None:
    """Raise :class:`WireError` where a report holds more than a node has: each list is bounded, all of them are not."""
    processes = slices = 0
    for gpu in report.gpus:
        if gpu.processes:
            processes += len(gpu.processes)
        if gpu.mig_devices:
            slices += len(gpu.mig_devices)
            processes += sum(len(one.processes) for one in gpu.mig_devices if one.processes)
    if processes > MAX_NODE_PROCESSES:
        raise WireError(f"not as agreed: {processes} processes of one node; allowed: at most {MAX_NODE_PROCESSES}")
    if slices > MAX_MIG_DEVICES:
        raise WireError(f"not as agreed: {slices} MIG devices of one node; allowed: at most {MAX_MIG_DEVICES}")


def decode_stranger(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """What somebody said whom nobody need believe: :func:`decode`, with all text fit to be shown."""
    value = decode(decoder, data)
    if is_plain_json(data):
        return value
    try:
        shown = printable_json(data)
    except UnicodeDecodeError as error:
        raise WireError(f"not JSON: byte {error.start} is not UTF-8") from None
    return value if shown == data else decode(decoder, shown)


def decode(decoder: msgspec.json.Decoder[T], data: bytes | str) -> T:
    """``data`` read by ``decoder``; every way in which it can be wrong becomes a :class:`WireError`."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        what, _, place = str(error).rpartition(" - at ")
        said = f"not as agreed at {place}: {what}" if what else f"not as agreed: {error}"
        raise WireError(one_line(said, MAX_SAID)) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise WireError(f"not JSON: {one_line(str(error), MAX_SAID)}") from None
    except RecursionError:
        raise WireError("not as agreed: nested too deeply") from None


def encode(value: Struct) -> bytes:
    """One of our own types as JSON: every field, ``null`` included."""
    return _encoder.encode(value)


def report_frame(report: bytes, *, late: bool = False, ahead: bool = False) -> bytes:
    """A :class:`ReportFrame` around a report that is encoded already."""
    return orjson.dumps({"type": "report", "late": late, "ahead": ahead, "report": orjson.Fragment(report)})


def common_protocol(hello: Hello) -> int | None:
    """The newest protocol that the agent and this hub both speak, or None."""
    newest = min(hello.protocol, PROTOCOL)
    return newest if newest >= max(hello.oldest_protocol, OLDEST_PROTOCOL) else None
