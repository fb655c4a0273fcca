"""A client of the retailer's APIs, and what happens to it: tokens are got, used, expire, are renewed, and are taken away. Writes a line of
what came of each step. The same whichever gateway stands before the APIs."""

import argparse
import http.client
import json
from urllib.parse import urlsplit

WAREHOUSE = {"X-API-KEY": "demo-key-of-the-warehouse"}
KIOSK = {"X-API-KEY": "demo-key-of-the-kiosk"}


class Caller:
    """Calls one server, a connection each time."""

    def __init__(self, url: str) -> None:
        self.address = urlsplit(url).netloc

    def call(self, method: str, target: str, headers: dict[str, str] | None = None, body: str | None = None):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer, text


def shown(text: str):
    """A body, without the tokens in it."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict):
        return {key: "…" if key.endswith("_token") else item for key, item in value.items()}
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gateway", help="address of the gateway")
    parser.add_argument("operator", help="address of the token service itself, for what its operator does")
    arguments = parser.parse_args()
    gateway, operator = Caller(arguments.gateway), Caller(arguments.operator)

    def step(name: str, method: str, target: str, headers: dict[str, str] | None = None, body: str | None = None) -> str:
        answer, text = gateway.call(method, target, headers, body)
        line = {
            "step": name,
            "status": answer.status,
            "type": answer.getheader("Content-Type"),
            "challenge": answer.getheader("WWW-Authenticate"),
            "body": shown(text),
        }
        print(json.dumps(line, ensure_ascii=False), flush=True)
        return text

    def with_token(tokens: str, **more: str) -> dict[str, str]:
        return {"X-API-ACCESS-TOKEN": json.loads(tokens)["access_token"]} | more

    def with_refresh(tokens: str) -> dict[str, str]:
        return {"X-API-REFRESH-TOKEN": json.loads(tokens)["refresh_token"]}

    operator.call("POST", "/admin/restore/warehouse")
    step("a wrong key", "POST", "/auth", {"X-API-KEY": "demo-key-of-nobody"})
    step("a call without a token", "GET", "/products/items/12345")
    step("a call with a wrong token", "GET", "/products/items/12345", {"X-API-ACCESS-TOKEN": "wrong"})
    first = step("tokens for a key", "POST", "/auth", WAREHOUSE)
    step("a call", "GET", "/products/items/12345?lang=ko&q=a%20b", with_token(first))
    step("a call to another service", "POST", "/orders", with_token(first), '{"item": 12345}')
    step("the head of an answer", "HEAD", "/products/items/12345", with_token(first))
    step("a path with what is encoded", "GET", "/products/a%20b/%EB%8C%80%EB%AC%B8", with_token(first))
    step("a path that climbs", "GET", "/products/../orders/7", with_token(first))
    step("a service that is not there", "GET", "/invoices/1", with_token(first))
    forged = {"X-New-Api-Url": "http://127.0.0.1:1/", "X-Api-Client": "root"}
    step("what only the token service may say", "GET", "/products/1", with_token(first, **forged))
    step("the check itself", "GET", "/check", with_token(first))
    step("what is for the operator", "POST", "/admin/revoke/kiosk", with_token(first))

    operator.call("POST", "/admin/expire/warehouse")
    step("a token whose time is over", "GET", "/products/1", with_token(first))
    second = step("new tokens", "POST", "/auth/refresh", with_refresh(first))
    step("a call with the new token", "GET", "/products/1", with_token(second))
    step("a refresh token that was used", "POST", "/auth/refresh", with_refresh(first))

    kiosk = step("tokens for another key", "POST", "/auth", KIOSK)
    step("a call that the other may make", "GET", "/products/1", with_token(kiosk))
    step("a call that the other may not make", "GET", "/orders/1", with_token(kiosk))

    operator.call("POST", "/admin/revoke/warehouse")
    step("a token that was revoked", "GET", "/products/1", with_token(second))
    step("its refresh token", "POST", "/auth/refresh", with_refresh(second))
    step("its key", "POST", "/auth", WAREHOUSE)
    step("the other is not concerned", "GET", "/products/1", with_token(kiosk))


if __name__ == "__main__":
    main()
