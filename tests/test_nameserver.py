"""Names asked of a real DNS server: what it tells, how it changes its mind, how it dies and comes back."""

from pathlib import Path

import pytest

from gpumon import nameserver, resolver
from gpumon.errors import ResolveError, SilenceError
from gpumon.nameserver import NameServer
from gpumon.resolver import Resolver
from tests.dnsmasq import dnsmasq, needs_dnsmasq
from tests.running import until

pytestmark = needs_dnsmasq


@pytest.mark.parametrize(("told", "kept"), [(0, 5), (7, 7), (9000, 300)])
async def test_an_answer_holds_as_long_as_the_server_says_within_bounds(tmp_path: Path, told: int, kept: int) -> None:
    with dnsmasq(tmp_path, {"node.lab": "10.0.0.1"}, ttl=told) as server:
        names = Resolver(("127.0.0.1", server.port), tmp_path / "hosts")
        assert await names.addresses("node.lab") == ("10.0.0.1",)
        found = names.resolution("node.lab")
        assert found is not None
        assert (found.server, found.ttl_seconds) == (f"127.0.0.1 port {server.port}", kept)
        assert (found.host, found.addresses, found.is_kept) == ("node.lab", ["10.0.0.1"], False)


async def test_both_families_are_known_and_what_is_not_known_is_no_silence(tmp_path: Path) -> None:
    with dnsmasq(tmp_path, {"four.lab": "10.0.0.1", "six.lab": "fd00::6"}) as server:
        asked = NameServer("127.0.0.1", server.port)
        assert (await asked.ask("four.lab")).addresses == ("10.0.0.1",)
        assert (await asked.ask("six.lab")).addresses == ("fd00::6",)
        with pytest.raises(ResolveError) as caught:
            await asked.ask("nobody.lab")
        assert not isinstance(caught.value, SilenceError) or "refuses" in str(caught.value)


async def test_a_node_that_moves_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "LEAST_TTL_SECONDS", 0.1)
    with dnsmasq(tmp_path, {"node.lab": "10.0.0.1"}, ttl=0) as server:
        names = Resolver(("127.0.0.1", server.port), tmp_path / "hosts")
        assert await names.addresses("node.lab") == ("10.0.0.1",)
        server.know({"node.lab": "10.0.0.2"})

        async def moved() -> bool:
            return await names.addresses("node.lab") == ("10.0.0.2",)

        await until(moved)


async def test_a_server_that_is_killed_leaves_its_last_answers_and_is_heard_again_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "LEAST_TTL_SECONDS", 0.0)
    monkeypatch.setattr(resolver, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(resolver, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(nameserver, "UDP_SECONDS", 0.2)
    with dnsmasq(tmp_path, {"node.lab": "10.0.0.1"}, ttl=0) as server:
        names = Resolver(("127.0.0.1", server.port), tmp_path / "hosts")
        await names.addresses("node.lab")
        before = names.resolution("node.lab")
        server.kill()
        assert not await NameServer("127.0.0.1", server.port).answers()
        assert await names.addresses("node.lab") == ("10.0.0.1",)
        kept = names.resolution("node.lab")
        assert before is not None
        assert kept is not None
        assert (kept.is_kept, kept.answered_at) == (True, before.answered_at)
        server.know({"node.lab": "10.0.0.9"})
        server.start()
        assert await NameServer("127.0.0.1", server.port).answers()

        async def is_back() -> bool:
            return await names.addresses("node.lab") == ("10.0.0.9",)

        await until(is_back)
        back = names.resolution("node.lab")
        assert back is not None
        assert not back.is_kept
