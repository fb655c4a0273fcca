"""What whoever runs the retailer's gateway does, once Daemun gives the tokens out: moves clients in, and ends tokens, cuts a client off and
lets it in again at the addresses that the token service had for that. Asks Daemun's admin listener; knows no key but those it moves."""

import argparse
import hashlib
import http.client
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit


class Admin:
    """Daemun's admin listener."""

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url).netloc

    def ask(self, method: str, path: str, members: dict | None = None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        body = None if members is None else json.dumps(members)
        connection.request(method, path, body, {} if body is None else {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        return answer.status, told

    def done(self, method: str, path: str, members: dict) -> dict:
        status, told = self.ask(method, path, members)
        if status >= 400:
            raise SystemExit(f"{method} {path}: {status}: {told['detail']}")
        return told


def consumer(name: str) -> str:
    return "/consumers/" + quote(name, safe="")


def move(admin: Admin, settings: dict) -> None:
    """Makes a consumer of each client, which has a role for each service that it may call, and takes its key in by the digest."""
    for name, client in settings["clients"].items():
        roles = [service.strip("/") for service in client["may"]]
        admin.done("PUT", consumer(name), {"roles": roles})
        digest = client.get("sha256") or hashlib.sha256(client["key"].encode()).hexdigest()
        key = {"kind": "key", "label": "of the token service", "sha256": digest}
        status, told = admin.ask("POST", consumer(name) + "/credentials", key)
        if status not in (201, 409):
            raise SystemExit(f"the key of {name}: {status}: {told['detail']}")
        what = "moved" if status == 201 else told["detail"]
        print(json.dumps({"client": name, "roles": roles, "key": what}), flush=True)


class Actions(BaseHTTPRequestHandler):
    """`POST /admin/ACTION/CLIENT`, as the token service had it."""

    protocol_version = "HTTP/1.1"
    admin: Admin

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match self.path.split("/"):
            case ["", "admin", action, client] if client:
                self.answer(self.act(action, unquote(client)))
            case _:
                self.answer(404)

    def act(self, action: str, client: str) -> int:
        match action:
            case "expire":
                status, _ = self.admin.ask("POST", "/revocations", {"subject": client, "tokens": "access"})
            case "revoke" | "restore":
                status, _ = self.admin.ask("GET", consumer(client))
                if status == 200:
                    status, _ = self.admin.ask("PUT", consumer(client), {"disabled": action == "revoke"})
            case _:
                return 404
        return 204 if status == 200 else status

    def answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        """Daemun's own log has a line of each of these."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    moving = commands.add_parser("move", help=move.__doc__)
    moving.add_argument("settings", help="the settings of the token service")
    serving = commands.add_parser("serve", help=Actions.__doc__)
    serving.add_argument("--port", type=int, required=True, help="0 takes a free one")
    for command in (moving, serving):
        command.add_argument("--admin", required=True, help="address of Daemun's admin listener")
    arguments = parser.parse_args()
    admin = Admin(arguments.admin)
    if arguments.command == "move":
        with open(arguments.settings, encoding="utf-8") as file:
            move(admin, json.load(file))
        return
    Actions.admin = admin
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Actions)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
