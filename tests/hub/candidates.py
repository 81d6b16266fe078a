"""Agents that would join, and say about it exactly what a test tells them to."""

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gpumon import handshake
from gpumon.handshake import JoinToken, KeyPair
from gpumon.wire import Challenge
from tests.hub.agents import RawAgent, hello, raw_agent
from tests.running import Site

Greetings = tuple[bytes, bytes]


@dataclass
class Candidate:
    """Who it says it is, and with what it proves that."""

    node: str = "n"
    agent_id: str = "a" * 32
    machine_id: str | None = "d" * 32
    keys: KeyPair = field(default_factory=KeyPair.new)

    def hello(self, **more: object) -> bytes:
        words = {"agent_id": self.agent_id, "machine_id": self.machine_id, "key": self.keys.public}
        return json.dumps(hello(self.node) | {"protocol": 2, "nonce": handshake.nonce()} | words | more).encode()

    def secret(self, challenge: bytes) -> str:
        return self.keys.shared_with(msgspec.json.decode(challenge, type=Challenge).key)

    def proof(self, greetings: Greetings, token: str | None = None, **more: object) -> dict[str, object]:
        """The right answer to a challenge, with the ``token`` if there is one, and with what is to be wrong of it."""
        answer = {"type": "proof", "proof": handshake.proof(self.secret(greetings[1]), "agent", *greetings)}
        if token is not None:
            answer["token_proof"] = handshake.proof(JoinToken.parse(token).secret, "agent", *greetings)
        return answer | more

    async def meet(self, agent: RawAgent, **more: object) -> Greetings:
        """Say hello and hear the challenge."""
        said = self.hello(**more)
        await agent.say(said.decode())
        heard = await agent.connection.recv(decode=False)
        assert json.loads(heard)["type"] == "challenge", heard
        return said, heard

    async def join(self, agent: RawAgent, token: str | None = None, **more: object) -> dict[str, Any]:
        """Do all that, rightly, and hear the hub's answer and its proof."""
        greetings = await self.meet(agent, **more)
        await agent.say(self.proof(greetings, token))
        welcome = await agent.hear()
        assert welcome["type"] == "welcome"
        assert welcome["proof"] == handshake.proof(self.secret(greetings[1]), "hub", *greetings)
        return welcome

    async def refused(
        self, hub: Site, token: str | None = None, address: str | None = None, **more: object
    ) -> tuple[int, str]:
        """Do all that, rightly, and be refused: the code and the reason. ``address``: from where a proxy brings it."""
        async with raw_agent(hub, {"X-Forwarded-For": address} if address else None) as agent:
            await agent.say(self.proof(await self.meet(agent, **more), token))
            return await agent.closed()

    def code(self, challenge: bytes) -> str:
        """What a person would compare."""
        hub = handshake.fingerprint(msgspec.json.decode(challenge, type=Challenge).key)
        return handshake.code(handshake.fingerprint(self.keys.public), hub, self.agent_id)
