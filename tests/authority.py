"""An authority of our own, and the certificates that it signs, or that sign themselves."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gpumon.certificates import Certificate
from gpumon.config import TlsSection

YEAR = 365.0
HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path

    @property
    def files(self) -> TlsSection:
        return TlsSection(certificate=str(self.certificate), key=str(self.key))

    @property
    def fingerprint(self) -> str:
        return Certificate.of(ssl.PEM_cert_to_DER_cert(self.certificate.read_text())).fingerprint


class Authority:
    """Signs for whoever asks. Its own certificate is in :attr:`file`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.file = folder / f"{name}.pem"
        one = _builder(self._name, self._name, self._key, -1, YEAR)
        one = one.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        one = one.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        usage = x509.KeyUsage(
            key_cert_sign=True,
            crl_sign=True,
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        one = one.add_extension(usage, critical=True)
        self.file.write_bytes(one.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str, *hosts: str, begins: float = -1, ends: float = YEAR) -> Signed:
        """A certificate in ``NAME.pem`` and ``NAME.key``, valid between so many days from now."""
        return _signed(self._folder, name, hosts or HOSTS, begins, ends, self)

    @property
    def signer(self) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
        return self._name, self._key


def self_made(folder: Path, name: str = "self", *hosts: str, begins: float = -1, ends: float = YEAR) -> Signed:
    """A certificate that nobody vouches for."""
    return _signed(folder, name, hosts or HOSTS, begins, ends, None)


def _signed(
    folder: Path, name: str, hosts: tuple[str, ...], begins: float, ends: float, authority: Authority | None
) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    issuer, signing = (subject, key) if authority is None else authority.signer
    one = _builder(subject, issuer, key, begins, ends)
    one = one.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    one = one.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    made = Signed(folder / f"{name}.pem", folder / f"{name}.key")
    made.certificate.write_bytes(one.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: float, ends: float
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=begins))
        .not_valid_after(now + dt.timedelta(days=ends))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
