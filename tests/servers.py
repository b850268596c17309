"""HTTP servers on this machine that play a chat endpoint, well or badly; several tests share them."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-Secret-0123456789"
Behaviour = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """One connection of the server."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer leaves as one packet
    server: "Server"  # type: ignore[assignment]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        behaviour = self.server.arrive(Seen(time.monotonic(), self.path, dict(self.headers), body))
        try:
            behaviour(self, body)
        finally:
            self.server.leave()

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Seen:
    """A request as it arrived."""

    time: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Server(ThreadingHTTPServer):
    """Plays an endpoint: the behaviours of `script` in turn, and then `usual` for ever."""

    request_queue_size = 64
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Behaviour] = []
        self.usual: Behaviour = say('{"thought": "-", "action": "yes"}')
        self.seen: list[Seen] = []
        self.now = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def arrive(self, seen: Seen) -> Behaviour:
        with self.lock:
            self.seen.append(seen)
            self.now += 1
            self.most = max(self.most, self.now)
            return self.script.pop(0) if self.script else self.usual

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that have gone are part of the tests


def completion(content: Any, usage: Any = (100, 10), finish: str | None = "stop", **message: Any) -> bytes:
    tokens = dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True)) if usage else None
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": tokens}).encode()


def say(content: Any, **options: Any) -> Behaviour:
    return lambda handler, body: handler.send(200, completion(content, **options))


def refuse(status: int, text: str = "", **headers: str) -> Behaviour:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, body: handler.send(status, text.encode(), named)


def late(handler: Handler, body: dict[str, Any]) -> None:
    time.sleep(1.6)
    handler.send(200, completion('{"action": "too late"}'))


def trickle(handler: Handler, body: dict[str, Any]) -> None:
    """Send byte by byte, each in time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def hang_up(handler: Handler, body: dict[str, Any]) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def break_off(handler: Handler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    hang_up(handler, body)


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server in a thread."""
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()
