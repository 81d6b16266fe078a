"""Certificates read, shown, changed and believed."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st

from gpumon import certificates
from gpumon.certificates import Certificate, FingerprintError, Shown, distrust, pin_of, pinned, trusting
from gpumon.config import TlsSection, hub_url_fault
from gpumon.errors import CertificateError
from tests.authority import Authority, Signed, self_made
from tests.running import until_true

DAY = 86_400.0


def der_of(one: Signed) -> bytes:
    return ssl.PEM_cert_to_DER_cert(one.certificate.read_text())


@pytest.mark.parametrize("days", [1.0, 365.0, 365.0 * 40])  # the last is told in another form
def test_what_stands_in_a_certificate_is_what_another_reader_sees(tmp_path: Path, days: float) -> None:
    for one, is_self_made in (
        (self_made(tmp_path, ends=days), True),
        (Authority(tmp_path).sign("signed", ends=days), False),
    ):
        other = x509.load_pem_x509_certificate(one.certificate.read_bytes())
        found = Certificate.of(der_of(one))
        assert found.fingerprint == other.fingerprint(hashes.SHA256()).hex()
        assert found.expires_at == other.not_valid_after_utc.timestamp()
        assert found.is_self_made is is_self_made


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return der_of(self_made(tmp_path_factory.mktemp("real")))


@given(st.data())
def test_what_is_no_certificate_is_said_to_be_none(real: bytes, data: st.DataObject) -> None:
    junk = bytearray(real if data.draw(st.booleans()) else data.draw(st.binary()))
    for _ in range(data.draw(st.integers(0, 4)) if junk else 0):
        junk[data.draw(st.integers(0, len(junk) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        Certificate.of(bytes(junk[: data.draw(st.integers(0, len(junk)))]))


@pytest.mark.parametrize(("days", "says"), [(15, None), (13, "expires on"), (-1, "expired on")])
def test_14_days_before_its_end_there_is_something_to_say(tmp_path: Path, days: float, says: str | None) -> None:
    fault = Shown(self_made(tmp_path, begins=-30, ends=days).files).expiry("The hub's")
    assert (fault is None) is (says is None)
    if fault is not None and says is not None:
        assert says in fault.message
        assert fault.code == "certificate_expires"


def lock(one: Signed) -> None:
    """Put the key behind a passphrase."""
    key = serialization.load_pem_private_key(one.key.read_bytes(), None)
    how = serialization.BestAvailableEncryption(b"secret")
    one.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption_algorithm=how)
    )


def test_what_cannot_be_shown_is_told_with_its_key_and_why(tmp_path: Path) -> None:
    one, other, locked = self_made(tmp_path, "one"), self_made(tmp_path, "other"), self_made(tmp_path, "locked")
    lock(locked)
    nothing, junk = str(tmp_path / "nothing"), tmp_path / "junk"
    junk.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    certificate = str(one.certificate)
    for files, says in (
        (TlsSection(certificate=nothing), f"tls.certificate: {nothing}: cannot be read: No such file"),
        (TlsSection(certificate=certificate, key=nothing), f"tls.key: {nothing}: cannot be read: No such file"),
        (TlsSection(certificate=str(tmp_path)), "cannot be read: Is a directory"),
        (TlsSection(certificate=str(junk)), "no certificate in PEM stands there"),
        (TlsSection(certificate=str(one.key)), "no certificate in PEM stands there"),
        (TlsSection(certificate=certificate), "no key in PEM without a passphrase"),
        (TlsSection(certificate=certificate, key=str(other.key)), f"is not the key of {certificate}"),
        (locked.files, "no key in PEM without a passphrase"),
    ):
        with pytest.raises(CertificateError) as caught:
            Shown(files)
        assert says in caught.value.faults[0]
    with pytest.raises(CertificateError, match=r"tls\.ca: .*no certificate in PEM"):
        trusting(str(one.key), None)
    with pytest.raises(CertificateError, match=r"tls\.ca: .*No such file"):
        trusting(nothing, None)


def test_certificate_and_key_may_stand_in_one_file(tmp_path: Path) -> None:
    one = self_made(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(one.key.read_bytes() + one.certificate.read_bytes())
    assert Shown(TlsSection(certificate=str(both))).certificate.fingerprint == one.fingerprint


# ---- on real sockets ----


@asynccontextmanager
async def server(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Says "hello" to whoever shakes hands; the port."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    one = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with one:
        yield one.sockets[0].getsockname()[1]


async def hear(port: int, context: ssl.SSLContext, name: str = "localhost") -> str:
    """What the server says, or what we say of it."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    except ssl.SSLError as error:
        return distrust(error)
    except ConnectionResetError:  # how asyncio's servers refuse
        return "refused"
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


async def test_who_is_believed_and_who_is_not_in_words(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    good, own = authority.sign("good"), self_made(tmp_path)
    expired, early = authority.sign("expired", begins=-9, ends=-1), authority.sign("early", begins=1)
    ours = str(authority.file)
    for shown, ca, pin, name, says in (
        (good, ours, None, "localhost", "hello"),
        (good, ours, None, "127.0.0.1", "hello"),
        (good, None, None, "localhost", "certificate of an unknown authority"),
        (good, str(other.file), None, "localhost", "certificate of an unknown authority"),
        (good, ours, None, "elsewhere.lab", "certificate for another name: "),
        (good, ours, None, "10.0.0.1", "certificate for another name: "),
        (expired, ours, None, "localhost", "certificate that has expired"),
        (early, ours, None, "localhost", "not valid yet: is this machine's clock right?"),
        (own, ours, None, "localhost", "certificate of an unknown authority"),
        (own, None, own.fingerprint, "elsewhere.lab", "hello"),
        (own, None, ":".join(own.fingerprint.upper()[at : at + 2] for at in range(0, 64, 2)), "x.lab", "hello"),
        (
            own,
            None,
            good.fingerprint,
            "localhost",
            f"another certificate than the pinned one: sha256={own.fingerprint}",
        ),
        (good, ours, own.fingerprint, "localhost", "another certificate than the pinned one: "),
    ):
        async with server(Shown(shown.files).context) as port:
            heard = await hear(port, trusting(ca, pin), name)
            assert says in heard, (shown.certificate.name, name)


async def test_nothing_is_said_to_who_is_not_the_pinned_one(tmp_path: Path) -> None:
    heard: list[bytes] = []
    own = self_made(tmp_path)

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            heard.append(await reader.read())
        writer.close()

    async def say(port: int, pin: str) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(None, pin), server_hostname="x")
        writer.write(b"a secret")
        writer.close()

    one = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=Shown(own.files).context)
    async with one:
        port = one.sockets[0].getsockname()[1]
        with pytest.raises(FingerprintError):
            await say(port, "00" * 32)
        await say(port, own.fingerprint)
        await until_true(lambda: b"a secret" in heard)
    assert [words for words in heard if words] == [b"a secret"]


async def test_a_pin_holds_for_who_does_not_use_asyncio_as_well(tmp_path: Path) -> None:
    own = self_made(tmp_path)

    def hear_blocking(port: int, pin: str) -> bytes:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            with trusting(None, pin).wrap_socket(plain, server_hostname="x") as one:
                return one.recv(5)

    async with server(Shown(own.files).context) as port:
        assert await asyncio.to_thread(hear_blocking, port, own.fingerprint) == b"hello"
        with pytest.raises(FingerprintError):
            await asyncio.to_thread(hear_blocking, port, "00" * 32)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
async def test_old_versions_of_tls_are_not_spoken(tmp_path: Path, version: ssl.TLSVersion) -> None:
    one = self_made(tmp_path)
    old = trusting(None, one.fingerprint)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, version
    async with server(Shown(one.files).context) as port:
        assert await hear(port, old) == "refused"
    outdated = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    outdated.set_ciphers("ALL:@SECLEVEL=0")
    outdated.load_cert_chain(one.certificate, one.key)
    outdated.minimum_version, outdated.maximum_version = ssl.TLSVersion.TLSv1, version

    def refuse(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with accepted, contextlib.suppress(ssl.SSLError):
            outdated.wrap_socket(accepted, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listener))
        heard = await hear(listener.getsockname()[1], trusting(None, one.fingerprint))
        assert heard == "speaks no TLS as new as 1.2"
        await refusing


async def test_what_speaks_no_tls_is_told_so() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    one = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with one:
        port = one.sockets[0].getsockname()[1]
        assert await hear(port, trusting(None, "00" * 32)) == "does not speak TLS: is it http:// there?"


async def test_files_that_change_are_shown_to_new_connections_and_bad_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LOOK_SECONDS", 0.05)
    first, second, third = (self_made(tmp_path, name) for name in ("first", "second", "third"))
    shown = Shown(first.files)
    looks = 0

    def looked() -> None:
        nonlocal looks
        looks += 1

    def become(certificate: Signed, key: Signed) -> None:
        first.certificate.write_bytes(certificate.certificate.read_bytes())
        first.key.write_bytes(key.key.read_bytes())

    pins = [first.fingerprint, second.fingerprint, third.fingerprint]
    async with server(shown.context) as port:

        async def who() -> int:
            return [await hear(port, trusting(None, pin)) for pin in pins].index("hello")

        task = asyncio.create_task(shown.watch(looked))
        assert await who() == 0
        become(second, second)
        await until_true(lambda: shown.certificate.fingerprint == second.fingerprint)
        assert await who() == 1
        become(third, second)  # a key that is not its own
        await until_true(lambda: shown.trouble)
        assert shown.trouble is not None
        assert shown.trouble.code == "bad_certificate"
        assert "is not the key of" in shown.trouble.message
        assert await who() == 1
        first.certificate.unlink()
        trouble = shown.trouble
        await until_true(lambda: shown.trouble != trouble)
        assert await who() == 1
        become(third, third)
        await until_true(lambda: shown.trouble is None)
        assert await who() == 2
        shown.files = second.files  # another configuration
        await until_true(lambda: shown.certificate.fingerprint == second.fingerprint)
        assert await who() == 1
        before = looks
        await until_true(lambda: looks > before)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_a_pin_goes_with_the_hubs_address(tmp_path: Path) -> None:
    own = Certificate.of(der_of(self_made(tmp_path)))
    signed = Certificate.of(der_of(Authority(tmp_path).sign("signed")))
    url = pinned("https://hub:8080", own)
    assert url == f"https://hub:8080#sha256={own.fingerprint}"
    assert (pin_of(url), hub_url_fault(url)) == (own.fingerprint, None)
    assert (pinned("https://hub:8080", signed), pin_of("https://hub:8080")) == ("https://hub:8080", None)


@pytest.mark.parametrize(
    "url",
    [
        "http://hub#sha256=" + "00" * 32,
        "https://hub#sha256=00",
        "https://hub#",
        "https://hub#other",
        "https://hub#sha256=" + "0g" * 32,
        "https://hub#sha256=" + "00" * 33,
        "https://me:word@hub",
        "https://@hub",
    ],
)
def test_a_pin_that_is_none_is_refused(url: str) -> None:
    assert hub_url_fault(url) is not None
