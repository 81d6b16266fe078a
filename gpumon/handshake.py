"""How an agent and a hub prove to each other who they are, where anybody may listen.

Each side keeps a key pair of its own (Diffie-Hellman in the group ffdhe2048 of RFC 7919), so the two share a secret
that never crosses the wire and that no third one can have, not even one who knows the join token. What proves a side
is an HMAC-SHA256 under that secret over both greetings, each with a nonce of its own, and over which side speaks. The
token names its hub by the fingerprint of the hub's key: who has it from the hub's owner knows the hub by it.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from gpumon.errors import JoinError

PRIME = int(  # ffdhe2048, RFC 7919, appendix A.1
    "ffffffffffffffffadf85458a2bb4a9aafdc5620273d3cf1d8b9c583ce2d3695a9e13641146433fbcc939dce249b3ef97d2fe363630c75d8"
    "f681b202aec4617ad3df1ed5d5fd65612433f51f5f066ed0856365553ded1af3b557135e7f57c935984f0c70e0e68b77e2a689daf3efe872"
    "1df158a136ade73530acca4f483a797abc0ab182b324fb61d108a94bb2c8e3fbb96adab760d7f4681d4f42a3de394df4ae56ede76372bb19"
    "0b07a7c8ee0a6d709e02fce1cdf7e2ecc03404cd28342f619172fe9ce98583ff8e4f1232eef28183c3fe3b1b4c6fad733bb5fcbc2ec22005"
    "c58ef1837d1683b2c6f34a26c1b2effa886b423861285c97ffffffffffffffff",
    16,
)
GENERATOR = 2
PRIVATE_BITS = 256
KEY_BYTES = 256
NONCE_BYTES = 32
TOKEN_BYTES = 16
FINGERPRINT_DIGITS = 32
CODE_GROUPS = 5

Key = Annotated[str, Meta(pattern=r"^[0-9a-f]{512}\Z")]
Nonce = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Mac = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Side = Literal["agent", "hub"]

_TOKEN = re.compile(rf"gpumon-join-([0-9a-f]{{{FINGERPRINT_DIGITS}}})-([0-9a-f]{{{2 * TOKEN_BYTES}}})")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A side's own key: ``public`` is told to everybody, ``private`` to nobody."""

    private: int
    public: Key

    @classmethod
    def new(cls) -> "KeyPair":
        """A random one."""
        return cls.of(secrets.randbits(PRIVATE_BITS) | 1 << (PRIVATE_BITS - 1))

    @classmethod
    def of(cls, private: int) -> "KeyPair":
        """The one that ``private`` belongs to. Takes milliseconds."""
        return cls(private, pow(GENERATOR, private, PRIME).to_bytes(KEY_BYTES).hex())

    def shared_with(self, other: Key) -> str:
        """The secret that this side shares with the one whose public key is ``other``. Takes milliseconds.

        Raises:
            JoinError: ``other`` is no public key.
        """
        number = int(other, 16)
        if not 1 < number < PRIME - 1:
            raise JoinError("the other side's key is none")
        shared = pow(number, self.private, PRIME).to_bytes(KEY_BYTES)
        both = "".join(sorted((self.public, other)))
        return hmac.digest(shared, b"gpumon: agent and hub 1\0" + both.encode(), "sha256").hex()

    def __repr__(self) -> str:
        return f"KeyPair({fingerprint(self.public)})"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """What lets an agent join the hub whose key has the fingerprint ``hub``."""

    hub: str
    secret: str

    @classmethod
    def new(cls, hub: str) -> "JoinToken":
        """A random one."""
        return cls(hub, secrets.token_hex(TOKEN_BYTES))

    @classmethod
    def parse(cls, text: str) -> "JoinToken":
        """The token that ``text`` is. Raises :class:`JoinError`, which does not quote it."""
        found = _TOKEN.fullmatch(text.strip())
        if found is None:
            raise JoinError("this is no join token of gpumon: it looks like gpumon-join-HEX-HEX, 77 characters")
        return cls(found[1], found[2])

    def text(self) -> str:
        """As it is passed on."""
        return f"gpumon-join-{self.hub}-{self.secret}"

    def __repr__(self) -> str:
        return f"JoinToken({self.hub})"


def nonce() -> Nonce:
    """A number that nobody has used before."""
    return secrets.token_hex(NONCE_BYTES)


def fingerprint(key: Key) -> str:
    """What stands for ``key`` where it is too long: 128 bits of its hash."""
    return hashlib.sha256(b"gpumon: a key 1\0" + key.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def code(agent: str, hub: str, agent_id: str) -> str:
    """What both sides show to a person who is to see whether they speak of the same agent and hub: ``ABCDE-...``.

    ``agent`` and ``hub`` are the fingerprints of their keys.
    """
    told = hashlib.sha256("\0".join(("gpumon: a code 1", agent, hub, agent_id)).encode()).digest()
    letters = base64.b32encode(told).decode()
    return "-".join(letters[5 * group : 5 * group + 5] for group in range(CODE_GROUPS))


def proof(secret: str, side: Side, hello: bytes, challenge: bytes) -> Mac:
    """What ``side`` proves to have ``secret`` by, in the conversation that began with these two greetings."""
    said = hashlib.sha256(hello).digest() + hashlib.sha256(challenge).digest()
    return hmac.digest(secret.encode(), b"gpumon.v1 " + side.encode() + b"\0" + said, "sha256").hex()


def is_same(one: str, two: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell where they differ."""
    return hmac.compare_digest(hashlib.sha256(one.encode()).digest(), hashlib.sha256(two.encode()).digest())
