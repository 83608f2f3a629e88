"""A server on loopback that speaks chat completions; a function says what the model would answer."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Served:
    """Where it is, and every request so far: path, headers and body."""

    def __init__(self, url: str):
        self.url = url
        self.requests: list[dict] = []


class CutOff(Exception):
    """Raised by an answer that is streamed: the connection ends in the middle of it."""


@contextmanager
def endpoint_server(answer: Callable[[dict], object], models: tuple[str, ...] = (), port: int = 0):
    """Serve until the block ends.

    `answer` is given a request's body and returns the text to say, an iterator of bytes to stream (`streamed` makes
    one), or (status, anything) to send as it is, headers third: bytes raw, the rest as JSON. What it returns for a
    model's text may also be None, as servers do where a filter cut in. A streamed answer is closed when the client is.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            served.requests.append({"path": self.path, "headers": dict(self.headers), "body": None})
            known = self.path.endswith("/v1/models")
            listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in models]}
            self.send(200 if known else 404, listed if known else {"error": "no such path"})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
            said = answer(body) if self.path.endswith("/v1/chat/completions") else (404, {"error": "no such path"})
            if isinstance(said, Iterator):
                self.stream(said)
            else:
                self.send(*said if isinstance(said, tuple) else (200, completion(said)))

        def send(self, status, content, headers=()):
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def stream(self, pieces):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                with closing(pieces):
                    for piece in filter(None, pieces):
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
            except (CutOff, OSError):
                self.close_connection = True

    server = Server(("127.0.0.1", port), Handler)
    served = Served(f"http://127.0.0.1:{server.server_address[1]}")
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


class Server(ThreadingHTTPServer):
    request_queue_size = 64  # five connections wait by default, the sixth is turned away
    daemon_threads = True


def completion(text: str | None) -> dict:
    message = {"role": "assistant", "content": text}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


def event(data: object) -> bytes:
    return f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n".encode()


def delta(text: object, finish: str | None = None, **more) -> bytes:
    choice = {"index": 0, "delta": {"content": text, **more}, "finish_reason": finish}
    return event({"object": "chat.completion.chunk", "choices": [choice]})


DONE = event("[DONE]")


def streamed(*pieces: str, finish: str = "stop") -> Iterator[bytes]:
    """Say pieces as vLLM does: a role first, the reason of the end last, usage after it."""
    yield delta("", role="assistant")
    yield from map(delta, pieces)
    yield delta("", finish)
    yield event({"object": "chat.completion.chunk", "choices": [], "usage": {"completion_tokens": len(pieces)}})
    yield DONE
