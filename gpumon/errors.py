"""Every error that gpumon raises on purpose, grouped by what the caller can do.

::

    GpumonError
    +-- UsageError          the user must change something: exit status 2, one line a fault
    |   +-- ConfigError     the configuration file is wrong (every fault at once)
    |   +-- ListenError     the address to listen on cannot be had
    |   +-- BindingError    the wrong package answers to ``import pynvml``
    |   +-- CertificateError  a certificate, a key or a list of authorities cannot be used
    +-- ServiceError        the service manager does not do what it was asked for
    +-- WireError           a peer sent something that is not in the agreed words
    +-- JoinError           agent and hub cannot prove to each other who they are
    +-- ResolveError        no address was found for a host name
    |   +-- SilenceError    since nobody answered
    +-- PollError           a polled node gave no usable answer
"""

from collections.abc import Sequence


class GpumonError(Exception):
    """The root of the tree."""


class UsageError(GpumonError):
    """What the user asked for cannot be done as asked. Each line is one fault."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults: Sequence[str] = faults


class ConfigError(UsageError):
    """The configuration file cannot be used."""


class ListenError(UsageError):
    """The address to listen on is taken, forbidden or not of this machine."""


class BindingError(UsageError):
    """``import pynvml`` does not give NVIDIA's own binding (distribution ``nvidia-ml-py``)."""


class CertificateError(UsageError):
    """A certificate, its key, or the file of the authorities to believe cannot be used."""


class ServiceError(GpumonError):
    """The service manager does not do what it was asked for; the text is its own word for why."""


class WireError(GpumonError):
    """A message does not follow :mod:`gpumon.wire`; the text says where and what was expected."""


class JoinError(GpumonError):
    """Agent and hub cannot prove to each other who they are; the text says why, and what to do. It holds no secret."""


class ResolveError(GpumonError):
    """A host name has no address; the text names who was asked."""


class SilenceError(ResolveError):
    """Nobody answers: what was known of the name before may still be true."""


class PollError(GpumonError):
    """A polled node gave no usable answer.

    ``answered`` is true where something on the node did answer: it is alive, only not well. ``address`` is
    where it was asked, if it came so far.
    """

    def __init__(self, code: str, message: str, hint: str | None = None, *, answered: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.answered = answered
        self.address: str | None = None
