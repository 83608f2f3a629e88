"""A server on loopback that speaks chat completions; a function says what the model would answer."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Served:
    """Where it is, and every request so far: path, headers and body."""

    def __init__(self, url: str):
        self.url = url
        self.requests: list[dict] = []


@contextmanager
def endpoint_server(answer: Callable[[dict], object]):
    """Serve until the block ends.

    `answer` is given a request's body and returns the text to say, or (status, anything) to send as it is: bytes raw,
    the rest as JSON. What it returns for a model's text may also be None, as servers do where a filter cut in.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
            said = answer(body) if self.path.endswith("/v1/chat/completions") else (404, {"error": "no such path"})
            status, content = said if isinstance(said, tuple) else (200, completion(said))
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_address[1]}")
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def completion(text: str | None) -> dict:
    message = {"role": "assistant", "content": text}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
