"""uvicorn over a listening socket, until a signal comes."""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from amsdff_jax.base.errors import UserError
from amsdff_jax.serving.app import CLOSE, answer, make_app
from amsdff_jax.serving.service import Service

logger = logging.getLogger(__name__)

LONGEST_HEAD = 1 << 16  # bytes of a request before its body
KEEP_ALIVE_S = 30
POLL_S = 0.02

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
_NO_HTTP = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any that is free.

    Raises:
      UserError: it cannot be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:  # the last of a name that no host can have
        raise UserError(f"--host={host} --port={port}: cannot be listened on ({error}); choose another") from None


async def run(service: Service, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, and then until what waits is answered, but no longer than the limits allow.

    Raises:
      UserError: a model cannot be compiled.
    """
    bounds = {name: getattr(service.limits, name) for name in ("read_timeout_s", "max_connections")}
    protocol = type("_Protocol", (_Protocol,), bounds)
    config = uvicorn.Config(
        make_app(service),
        http=protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    begun, told = time.monotonic(), False
    while not stop.is_set() and not serving.done() and service.failure is None:
        if service.ready and not told:
            logger.info("ready after %.1f s", time.monotonic() - begun)
            told = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), POLL_S if not told else 1.0)
    service.draining = True
    await _wait_for_requests(service, service.limits.drain_s)
    server.should_exit = True
    await serving
    await _wait_for_requests(service, 1.0)  # uvicorn has given them up, which they tell their clients
    if service.failure is not None:
        raise service.failure


async def _wait_for_requests(service: Service, seconds: float) -> None:
    """Until all requests have ended, but no longer than so many seconds."""
    end = time.monotonic() + seconds
    while service.active and time.monotonic() < end:
        await asyncio.sleep(POLL_S)


def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Sets `stop` at SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to whoever runs the server: uvicorn would end the process by them."""
        yield


class _Protocol(HttpToolsProtocol):
    """HTTP on so many connections, whose head must come in time and within bounds; uvicorn waits for any, for ever."""

    read_timeout_s = 10.0
    max_connections = 512
    _timer: asyncio.TimerHandle | None = None
    _head = 0
    _head_ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            line = f"connections: at most {self.max_connections:,} at a time; come again in a second"
            self.app = answer({"error": line}, 503, {"retry-after": "1"} | CLOSE)  # to whatever is asked
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        awaited, self._head_ended = self._timer is not None, False
        super().data_received(data)
        # Not of a piece in which a head has ended, or a body gone on, behind which another request may have begun.
        if awaited and not self._head_ended:
            self._head += len(data)
        if self._timer is not None and self._head > LONGEST_HEAD:
            self._refuse(_TOO_LARGE, f"headers: expected at most {LONGEST_HEAD:,} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._end()
        self._begin()

    def on_headers_complete(self) -> None:
        self._end()
        self._head_ended = True
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Of uvicorn, for what is no HTTP; its own answer is no JSON, and would go into one that is being written."""
        self._refuse(_NO_HTTP, "request: expected HTTP/1.1")

    def _begin(self) -> None:
        self._head = 0
        line = f"headers: expected all of them within {self.read_timeout_s:g} s; send them faster"
        self._timer = self.loop.call_later(self.read_timeout_s, self._refuse, _TOO_SLOW, line)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, head: bytes, line: str) -> None:
        self._end()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # else it would be taken for another request's answer
            body = f'{{"error": "{line}"}}'.encode()
            self.transport.write(head + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()
