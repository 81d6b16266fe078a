"""``/api/agents``: who has joined and who waits, for an admin to admit and to revoke. The gate lets nobody else in."""

from collections.abc import Callable
from typing import Final, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gpumon.hub.door import Door, UnknownAgentError
from gpumon.hub.openapi import Agents, JoinedAgent, WaitingAgent
from gpumon.hub.roster import Record
from gpumon.wire import encode

JSON: Final = "application/json"


class AgentsApi:
    """Asks ``door``; ``address_of`` tells from where the agent of an id is connected, if it is."""

    def __init__(self, door: Door, address_of: Callable[[str], str | None]) -> None:
        self._door = door
        self._address_of = address_of
        self.routes = [
            Route("/api/agents", self.agents, methods=["GET"]),
            Route("/api/agents/{agent}/admit", self.admit, methods=["POST"]),
            Route("/api/agents/{agent}", self.revoke, methods=["DELETE"]),
        ]

    async def agents(self, _: Request) -> Response:
        """All of them, by name."""
        joined = sorted(self._door.roster, key=lambda one: (one.node, one.admitted_at))
        waiting = [
            WaitingAgent(
                id=one.agent_id,
                node=one.node,
                address=one.address,
                code=one.code,
                first_seen_at=one.first_seen_at,
                last_seen_at=one.last_seen_at,
                replaces=None if (owner := self._door.roster.of_node(one.node)) is None else owner.agent_id,
            )
            for one in self._door.waiting
        ]
        answer = Agents(push=self._door.push, joined=[self._told(one) for one in joined], waiting=waiting)
        return Response(encode(answer), media_type=JSON)

    async def admit(self, request: Request) -> Response:
        """Let one in that waits or was revoked."""
        try:
            record = self._door.let_in(request.path_params["agent"])
        except UnknownAgentError as error:
            raise HTTPException(error.status, str(error)) from None
        await self._door.roster.save()
        return Response(encode(self._told(record)), media_type=JSON)

    async def revoke(self, request: Request) -> Response:
        """Show one out that has joined, or turn one away that waits."""
        try:
            self._door.show_out(request.path_params["agent"])
        except UnknownAgentError as error:
            raise HTTPException(error.status, str(error)) from None
        await self._door.roster.save()
        return Response(status_code=204)

    def _told(self, record: Record) -> JoinedAgent:
        state: Literal["joined", "expected", "revoked"] = "joined" if record.secret is not None else "expected"
        return JoinedAgent(
            id=record.agent_id,
            node=record.node,
            code=self._door.code_of(record),
            state="revoked" if record.revoked_at is not None else state,
            admitted_by=record.admitted_by,
            admitted_at=record.admitted_at,
            revoked_at=record.revoked_at,
            address=self._address_of(record.agent_id),
        )
