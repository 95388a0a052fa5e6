"""Thousands of requests, right and wrong ones in turn: none lost, none answered wrong, and memory as before."""

import asyncio
import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from amsdff_jax import Classifier
from tests.conftest import make_texts
from tests.serving.conftest import serving

pytest.importorskip("starlette", reason="needs the extra serve")

CLIENTS = 64
TEXTS = [*make_texts(40, 9)[0], "", "w1 " * 300, "größer 😀", "w1 \x00 w2"]
LEFT = None  # the client left without reading, or was taken to have left because it closed its half


def request(body, path="/predict", kind="application/json", length=None, method="POST"):
    length = len(body) if length is None else length
    lines = [f"{method} {path} HTTP/1.1", "host: a", "connection: close", f"content-length: {length}"]
    return "\r\n".join([*lines, f"content-type: {kind}", "", ""]).encode() + body


def right(choice):
    """A request, and the places of its texts."""
    rows = choice.choices(range(len(TEXTS)), k=choice.randint(1, 4))
    return request(json.dumps({"texts": [TEXTS[row] for row in rows], "top_k": 3}).encode()), rows


def wrong(choice):
    """A request, the statuses that may answer it, and how the client behaves."""
    body = json.dumps({"texts": ["w1"]}).encode()
    noise = choice.randbytes(choice.randint(1, 400))
    return choice.choice([
        (request(body[:-1]), {400}, "reads"),
        (request(noise), {400}, "reads"),
        (request(b""), {400}, "reads"),
        (request(b"[" * 5_000), {400}, "reads"),
        (request(body, kind="text/plain"), {415}, "reads"),
        (request(b" " * 20_001), {413}, "reads"),
        (request(b"", length=10**12), {413}, "reads"),
        (request(json.dumps({"texts": ["w1"] * 65}).encode()), {413}, "reads"),
        (request(b'{"texts": []}'), {422}, "reads"),
        (request(b'{"texts": [1]}'), {422}, "reads"),
        (request(b'{"text": "w1", "texts": ["w1"]}'), {422}, "reads"),
        (request(b'{"text": "w1", "file": "/etc/passwd"}'), {422}, "reads"),
        (request(b'{"text": "w1", "model": "../.."}'), {404}, "reads"),
        (request(body, path="/nothing"), {404}, "reads"),
        (request(b"", method="GET"), {405}, "reads"),
        (noise + b"\r\n\r\n", {400}, "reads"),
        (request(body), {200, LEFT}, "closes its half"),
        (request(body, length=len(body) + 9), {LEFT}, "leaves"),
        (request(body)[:-3], {LEFT}, "leaves"),
        (request(body), {LEFT}, "leaves"),
    ])  # fmt: skip


async def ask(address, data, behaviour="reads"):
    """Status and content of an answer."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(data)
        await writer.drain()
        if behaviour == "leaves":
            return LEFT, b""
        if behaviour == "closes its half":
            writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 60)
        if behaviour == "closes its half" and not answer:
            return LEFT, b""
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    finally:
        writer.transport.abort() if behaviour == "leaves" else writer.close()


def private_memory():
    """Bytes that belong to this process alone."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("number", [pytest.param(1_000, id="1000"), pytest.param(10_000, marks=pytest.mark.expensive)])
def test_right_requests_are_answered_beside_wrong_ones(folders, number):
    with serving({"single": folders / "single"}) as client:
        address = client.base_url.host, client.base_url.port
        classifier = Classifier.from_pretrained(folders / "single")
        names, known = classifier.class_names, classifier.predict_proba(TEXTS)
        statuses, answered = Counter(), 0

        async def visit(seed, requests):
            nonlocal answered
            choice = random.Random(seed)
            for _ in range(requests):
                if choice.random() < 0.5:
                    data, rows = right(choice)
                    status, body = await ask(address, data)
                    assert status == 200, body
                    found = json.loads(body)["predictions"]
                    assert [record["row"] for record in found] == list(range(1, len(rows) + 1))
                    for record, row in zip(found, rows, strict=True):
                        given = {one["label"]: one["probability"] for one in record["top_k"]}
                        assert given == pytest.approx(dict(zip(names, known[row].tolist(), strict=True)), abs=2e-5)
                    answered += len(rows)
                else:
                    data, expected, behaviour = wrong(choice)
                    status, body = await ask(address, data, behaviour)
                    assert status in expected, (data[:200], body)
                    if status not in (LEFT, 200) and body.startswith(b"{"):
                        assert set(json.loads(body)) == {"error"}
                    statuses[status] += 1

        async def visits(first, requests):
            await asyncio.gather(*(visit(first + seed, requests // CLIENTS) for seed in range(CLIENTS)))

        asyncio.run(visits(0, CLIENTS * 3))  # whatever is made once
        before = private_memory() if sys.platform == "linux" else 0
        asyncio.run(visits(CLIENTS, number))
        after = private_memory() if sys.platform == "linux" else 0
        print(f"{number} requests: {statuses}, memory {(after - before) / 1e6:+.1f} MB")
        assert answered > number
        assert {400, 404, 405, 413, 415, 422, LEFT} <= set(statuses)
        assert after - before < 1_000 * number + 20_000_000  # a task and its answer, kept of each, would be more
        assert client.get("/ready").status_code == 200
        assert client.service.models["single"].texts.waiting == 0
        assert client.service.active <= 1  # the last one may still be on its way out
