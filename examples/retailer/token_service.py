"""The retailer's token service: gives access tokens for API keys, renews them, and tells the gateway of every call whether its token
holds and where the call goes. Holds everything in memory; knows nothing of the services themselves."""

import argparse
import asyncio
import hashlib
import hmac
import json
import secrets
import socket
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote, unquote

import uvicorn
from fastapi import FastAPI, Header, Response
from fastapi.responses import JSONResponse

ACCESS_SECONDS = 600
REFRESH_SECONDS = 86400
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="retailer"'}


@dataclass
class Client:
    """Who has an API key, and which services they may call."""

    name: str
    digest: bytes
    may: list[str]
    cut_off: bool = False


@dataclass
class Grant:
    """An access token and the refresh token that came with it."""

    client: Client
    access: str
    refresh: str
    access_until: float
    refresh_until: float


class Tokens:
    """All grants, by either token."""

    def __init__(self) -> None:
        self.by_access: dict[str, Grant] = {}
        self.by_refresh: dict[str, Grant] = {}

    def issue(self, client: Client) -> Grant:
        now = time.monotonic()
        access, refresh = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        grant = Grant(client, access, refresh, now + ACCESS_SECONDS, now + REFRESH_SECONDS)
        self.by_access[access] = grant
        self.by_refresh[refresh] = grant
        return grant

    def drop(self, grant: Grant) -> None:
        self.by_access.pop(grant.access, None)
        self.by_refresh.pop(grant.refresh, None)

    def of_access(self, token: str) -> Grant | None:
        grant = self.by_access.get(token)
        return grant if grant and time.monotonic() < grant.access_until else None

    def of_refresh(self, token: str) -> Grant | None:
        grant = self.by_refresh.get(token)
        return grant if grant and time.monotonic() < grant.refresh_until else None

    def of_client(self, name: str) -> list[Grant]:
        return [grant for grant in self.by_refresh.values() if grant.client.name == name]

    def sweep(self) -> None:
        now = time.monotonic()
        for grant in list(self.by_refresh.values()):
            if grant.refresh_until <= now:
                self.drop(grant)


def application(settings: dict) -> FastAPI:
    services: dict[str, str] = settings["services"]
    clients = [
        Client(name, hashlib.sha256(client["key"].encode()).digest(), client["may"])
        for name, client in settings["clients"].items()
    ]
    tokens = Tokens()

    @asynccontextmanager
    async def sweeping(_: FastAPI):
        async def sweep() -> None:
            while True:
                await asyncio.sleep(60)
                tokens.sweep()

        task = asyncio.create_task(sweep())
        yield
        task.cancel()

    app = FastAPI(lifespan=sweeping, docs_url=None, redoc_url=None, openapi_url=None)

    def pair(grant: Grant) -> dict:
        return {"access_token": grant.access, "refresh_token": grant.refresh, "expires_in": ACCESS_SECONDS}

    def refused(why: str) -> JSONResponse:
        return JSONResponse({"error": why}, 401, CHALLENGE)

    @app.post("/auth")
    def auth(x_api_key: str = Header("")):
        """An access token and a refresh token for an API key."""
        digest = hashlib.sha256(x_api_key.encode()).digest()
        known = [client for client in clients if hmac.compare_digest(client.digest, digest)]
        if not known or known[0].cut_off:
            return refused("the API key is not known")
        return pair(tokens.issue(known[0]))

    @app.post("/auth/refresh")
    def refresh(x_api_refresh_token: str = Header("")):
        """New tokens for a refresh token, which is used up by it, with the access token it came with."""
        grant = tokens.of_refresh(x_api_refresh_token)
        if grant is None:
            return refused("the refresh token is not known")
        tokens.drop(grant)
        return pair(tokens.issue(grant.client))

    @app.get("/check")
    def check(
        x_api_access_token: str = Header(""), x_api_subqry: str = Header("/"), x_api_subargs: str = Header("")
    ):
        """Whether a call is let in, and where it goes. The gateway asks this about every call."""
        grant = tokens.of_access(x_api_access_token)
        if grant is None:
            return Response(status_code=401, headers=CHALLENGE)
        # the bytes that were sent; one gateway sends the path decoded, another as it is forwarded
        path = unquote(x_api_subqry.encode("latin-1").decode("utf-8", "replace"))
        for prefix in grant.client.may:
            if path == prefix or path.startswith(prefix + "/"):
                url = services[prefix] + quote(path[len(prefix) :])
                headers = {
                    "X-New-Api-Url": f"{url}?{x_api_subargs}" if x_api_subargs else url,
                    "X-Api-Client": grant.client.name,
                }
                return Response(status_code=200, headers=headers)
        return Response(status_code=403)

    # for whoever runs the service; the gateway passes none of these on

    @app.post("/admin/expire/{client}")
    def expire(client: str):
        """Ends the access tokens of a client as if their time were over."""
        for grant in tokens.of_client(client):
            grant.access_until = 0
        return Response(status_code=204)

    @app.post("/admin/revoke/{client}")
    def revoke(client: str):
        """Cuts a client off: its tokens and its key."""
        for grant in tokens.of_client(client):
            tokens.drop(grant)
        for known in clients:
            known.cut_off |= known.name == client
        return Response(status_code=204)

    @app.post("/admin/restore/{client}")
    def restore(client: str):
        """Lets a client that was cut off use its key again."""
        for known in clients:
            known.cut_off &= known.name != client
        return Response(status_code=204)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free one")
    parser.add_argument("--settings", default="services.json")
    arguments = parser.parse_args()
    with open(arguments.settings, encoding="utf-8") as file:
        app = application(json.load(file))
    listening = socket.create_server(("127.0.0.1", arguments.port))
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
