"""One of the retailer's services, made small: answers every call with what it was asked. Knows nothing of tokens."""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = ""

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print(json.dumps({"asked": f"{self.command} {self.path}"}), flush=True)
        told = {
            "service": self.name,
            "method": self.command,
            "path": path,
            "query": query,
            "client": self.headers.get("X-Api-Client"),
            "body": asked.decode(),
        }
        body = json.dumps(told).encode()
        self.send_response(201 if self.command == "POST" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_) -> None:
        """Says nothing beside the lines above."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    arguments = parser.parse_args()
    Answers.name = arguments.name
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Answers)
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
