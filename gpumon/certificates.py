"""Certificates: the one that a server shows, kept up to date with its files, and those that a client believes.

What a certificate holds (RFC 5280, section 4.1) is read here as far as we need it: until when, and by whom it was
signed. Whether it is to be believed is for OpenSSL to say, or for whoever pinned its fingerprint.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from gpumon.config import TlsSection
from gpumon.errors import CertificateError
from gpumon.model import Fault
from gpumon.text import one_line

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often the files are looked at. What has changed is read when it has not changed for as long again."""
WARN_SECONDS = 14 * 86_400
MOST_SAID = 300
FIRST = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
PIN: Final = "sha256="

SEQUENCE, INTEGER, VERSION, UTC_TIME, GENERALIZED_TIME = 0x30, 0x02, 0xA0, 0x17, 0x18
# X509_V_ERR_... of OpenSSL
NOT_YET_VALID, EXPIRED = 9, 10
UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21, 24, 27})
OTHER_NAME = frozenset({62, 64})
NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "RECORD_LAYER_FAILURE"})
OLD_TLS = frozenset({"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"})


class FingerprintError(ssl.SSLError):
    """A peer shows another certificate than the one that was pinned. Of SSL's tree, for asyncio passes on no other."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What we need to know of one. ``fingerprint`` is the SHA-256 of its DER in hex; ``expires_at`` Unix seconds;
    ``is_self_made``: signed by itself, so no list of authorities can vouch for it.
    """

    fingerprint: str
    expires_at: float
    is_self_made: bool

    @classmethod
    def of(cls, der: bytes) -> "Certificate":
        """What stands in ``der``. Raises ValueError where it is no certificate."""
        ((_, whole),) = _elements(der)
        (_, body), *_ = _elements(whole)
        parts = [(tag, value) for tag, value in _elements(body) if tag != VERSION]
        (serial, _), _, (_, issuer), (kind, validity), (_, subject), *_ = parts
        if (serial, kind) != (INTEGER, SEQUENCE):
            raise ValueError("not a certificate")
        _, (tag, text) = _elements(validity)
        return cls(hashlib.sha256(der).hexdigest(), _moment(tag, text.decode("ascii")), issuer == subject)

    def expiry(self, whose: str, now: float) -> Fault | None:
        """What to say where it ends within 14 days, or has ended. ``whose``: "The hub's"; ``now``: Unix seconds."""
        if self.expires_at - now > WARN_SECONDS:
            return None
        verb = "expires" if self.expires_at > now else "expired"
        moment = time.strftime("%Y-%m-%d %H:%M", time.gmtime(self.expires_at))
        return Fault(
            code="certificate_expires",
            message=f"{whose} certificate {verb} on {moment} UTC.",
            hint="Renew it in its files: they are read again by themselves.",
        )


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and value of each element of DER (X.690, section 8.1), one after the other."""
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise ValueError("cut short")
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            width = size & 0x7F
            if not 1 <= width <= 4:
                raise ValueError("a length that no certificate has")
            size = int.from_bytes(data[at : at + width])
            at += width
        if at + size > len(data):
            raise ValueError("cut short")
        yield tag, data[at : at + size]
        at += size


def _moment(tag: int, text: str) -> float:
    """Unix seconds of a time as certificates have it (RFC 5280, section 4.1.2.5)."""
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError("not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%S%z").timestamp()


# ---- of a server ----


class Shown:
    """The certificate that a server shows, by :attr:`context`, and keeps up to date by :meth:`watch`.

    Raises:
        CertificateError: the files cannot be used; the text names the key of the configuration and what is wrong.
    """

    def __init__(self, files: TlsSection) -> None:
        self.files = files
        """May be replaced by others that name a certificate as well: they are read when they are next looked at."""
        self.trouble: Fault | None = None
        """Why what is in the files now cannot be shown."""
        self.context = _server_context()
        self._seen = self._read = self._stamp()
        self.certificate = self._load(files)

    def expiry(self, whose: str) -> Fault | None:
        """What to say where the certificate ends soon."""
        return self.certificate.expiry(whose, time.time())

    async def watch(self, looked: Callable[[], None]) -> None:
        """Read files that have changed, until cancelled; connections that are open keep what they were shown.

        ``looked`` is called at once, and after each look.
        """
        while True:
            looked()
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        files = self.files
        stamp = await asyncio.to_thread(self._stamp)
        has_settled, self._seen = stamp == self._seen, stamp
        if stamp == self._read or not has_settled:
            return
        self._read = stamp
        try:
            self.certificate = await asyncio.to_thread(self._load, files)
        except CertificateError as error:
            said = "; ".join(error.faults)
            log.error("the certificate stays as it was: %s", said)
            self.trouble = Fault(
                code="bad_certificate",
                message=f"The certificate was changed and cannot be used, so the one before stays: {said}"[:1024],
                hint="Mend the files: they are read again by themselves.",
            )
        else:
            self.trouble = None
            log.info("the certificate was read again; its fingerprint is %s", self.certificate.fingerprint)

    def _stamp(self) -> tuple[object, ...]:
        """What changes when the files do."""
        found: list[object] = []
        for path in _paths(self.files):
            try:
                status = path.stat()
                found.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
            except OSError as error:
                found.append((path, error.errno))
        return tuple(found)

    def _load(self, files: TlsSection) -> Certificate:
        """Have :attr:`context` show what is in ``files``, if a context of its own could: one that has taken a
        certificate and not its key shows nothing.
        """
        certificate, key = _paths(files)
        pem = _bytes("tls.certificate", certificate)
        if key != certificate:
            _bytes("tls.key", key)
        try:
            match = FIRST.search(pem)
            found = Certificate.of(ssl.PEM_cert_to_DER_cert(match[0].decode("ascii") + "\n")) if match else None
        except ValueError:
            found = None
        if found is None:
            raise CertificateError(f"tls.certificate: {certificate}: no certificate in PEM stands there")
        for context in (_server_context(), self.context):
            try:
                context.load_cert_chain(certificate, key, password=lambda: "")
            except (OSError, ValueError) as error:
                raise CertificateError(_why_not(certificate, key, error)) from None
        return found


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _paths(files: TlsSection) -> tuple[Path, Path]:
    """Certificate and key; the key may stand in the certificate's file."""
    certificate = _path(files.certificate or "")
    return certificate, certificate if files.key is None else _path(files.key)


def _path(text: str) -> Path:
    with contextlib.suppress(RuntimeError):  # who has no home may write ~ and mean it
        return Path(text).expanduser()
    return Path(text)


def _bytes(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{name}: {path}: cannot be read: {error.strerror}") from None


def _why_not(certificate: Path, key: Path, error: OSError | ValueError) -> str:
    reason = getattr(error, "reason", None) or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return f"tls.key: {key}: is not the key of {certificate}"
    if reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
        return f"tls.certificate: {certificate}: is too weak for this machine ({reason})"
    return f"tls.key: {key}: no key in PEM without a passphrase stands there ({one_line(reason, MOST_SAID)})"


# ---- of a client ----


def normal(fingerprint: str) -> str:
    """A fingerprint as we compare it, from one with or without colons, in capitals or not."""
    return fingerprint.replace(":", "").lower()


def pin_of(url: str) -> str | None:
    """The fingerprint at the end of a hub's URL: ``https://hub:8080#sha256=...``."""
    fragment = urlsplit(url).fragment
    return normal(fragment.removeprefix(PIN)) if fragment.startswith(PIN) else None


def pinned(url: str, certificate: Certificate) -> str:
    """``url``, with the fingerprint of its certificate where that is the only way to know it."""
    return f"{url}#{PIN}{certificate.fingerprint}" if certificate.is_self_made else url


def trusting(ca: str | None, fingerprint: str | None) -> ssl.SSLContext:
    """For connections to a peer that shows the certificate of this ``fingerprint``, whoever signed it and until when;
    without one, to a peer whose certificate holds, is for its name and is signed by the authorities in the file
    ``ca``, or by those of this machine: then it reads files, and is not for the event loop.

    Raises:
        CertificateError: the file cannot be used.
    """
    if fingerprint is not None:
        pinning = _PinningContext(ssl.PROTOCOL_TLS_CLIENT)
        pinning.pin = normal(fingerprint)
        pinning.check_hostname = False
        pinning.verify_mode = ssl.CERT_NONE  # the handshake compares the fingerprint instead
        context: ssl.SSLContext = pinning
    else:
        path = None if ca is None else _path(ca)
        try:
            context = ssl.create_default_context(cafile=path)
        except OSError as error:
            reason = "no certificate in PEM stands there" if isinstance(error, ssl.SSLError) else error.strerror
            raise CertificateError(f"tls.ca: {path}: cannot be used: {reason}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _PinningObject(ssl.SSLObject):
    """What asyncio speaks TLS by."""

    def do_handshake(self) -> None:
        super().do_handshake()
        _compare(self.context, self.getpeercert(binary_form=True))


class _PinningSocket(ssl.SSLSocket):
    """What everybody else speaks TLS by."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _compare(self.context, self.getpeercert(binary_form=True))


class _PinningContext(ssl.SSLContext):
    """Ends a handshake with who is not the one, before anything is said to it."""

    pin: str
    sslobject_class = _PinningObject
    sslsocket_class = _PinningSocket


def _compare(context: ssl.SSLContext, der: bytes | None) -> None:
    shown = hashlib.sha256(der or b"").hexdigest()
    if not isinstance(context, _PinningContext) or shown != context.pin:
        raise FingerprintError(f"sha256={shown}")


def distrust(error: ssl.SSLError) -> str:
    """What is wrong with a peer, in words that go on from its name."""
    if isinstance(error, FingerprintError):
        return f"shows another certificate than the pinned one: {error.args[0]}"
    code = getattr(error, "verify_code", None)
    if code == EXPIRED:
        return "shows a certificate that has expired"
    if code == NOT_YET_VALID:
        return "shows a certificate that is not valid yet: is this machine's clock right?"
    if code in OTHER_NAME:
        return f"shows a certificate for another name: {one_line(getattr(error, 'verify_message', ''), MOST_SAID)}"
    if code in UNKNOWN_AUTHORITY:
        return "shows a certificate of an unknown authority: give its authority's file (tls.ca), or pin its fingerprint"
    if error.reason in NO_TLS:
        return "does not speak TLS: is it http:// there?"
    if error.reason in OLD_TLS:
        return "speaks no TLS as new as 1.2"
    said = getattr(error, "verify_message", None) or error.reason or str(error)
    return f"cannot agree with us on TLS: {one_line(str(said), MOST_SAID)}"
