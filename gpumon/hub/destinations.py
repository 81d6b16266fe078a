"""Where the hub connects to when it polls, and where never.

Clouds tell credentials to whoever asks from a machine of theirs, at addresses that no GPU node has. A name in the
configuration, or whoever answers for it, shall not make the hub ask there. Loopback and private networks stay: that is
where nodes are.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",  # nearly all of them
            "100.100.100.200",  # Alibaba Cloud
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle Cloud
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google Cloud
            "fd00:42::42",  # Scaleway
        ),
    )
)
THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")
# IPv4 addresses inside IPv6 ones: compatible (RFC 4291), and translated (RFC 6052, RFC 8215).
HOLDING_IPV4: Final = tuple(map(IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))


def refusal(address: str) -> str | None:
    """What ``address`` is that nobody may be asked there, in words; None where the hub may ask."""
    try:
        one = ip_address(address)
    except ValueError:
        return "no address"
    return next((words for each in (one, *_inside(one)) if (words := _words(each))), None)


def _words(one: IPv4Address | IPv6Address) -> str | None:
    if one in METADATA:
        return "where a cloud tells its machines their credentials"
    if one.is_unspecified or one in THIS_NETWORK:
        return "no address of a machine"
    if one.is_link_local:
        return "link-local"
    if one.is_multicast:
        return "an address of many (multicast)"
    if isinstance(one, IPv4Address) and one.is_reserved:
        return "reserved"
    return None


def _inside(one: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if isinstance(one, IPv4Address) or one.is_loopback or one.is_unspecified:
        return []
    found = [one.ipv4_mapped, one.sixtofour, *(one.teredo or ())]
    if any(one in network for network in HOLDING_IPV4):
        found.append(IPv4Address(int(one) & 0xFFFF_FFFF))
    return [each for each in found if each is not None]
