"""What a server refuses, and how it stays itself beside clients that are slow, gone or too many."""

import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from amsdff_jax.base.errors import UserError
from amsdff_jax.serving.serve import name_models, serve
from tests.processes import Script, run_script
from tests.serving.conftest import post, serving

pytest.importorskip("starlette", reason="needs the extra serve")

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(folders):
    with serving({"single": folders / "single"}) as client:
        yield client


class Gate:
    """Holds the computing of a server until it is opened."""

    def __init__(self, batcher):
        self.entered, self.opened = threading.Event(), threading.Event()
        self.sizes, compute = [], batcher._compute

        def wait(items):
            self.sizes.append(len(items))
            self.entered.set()
            self.opened.wait(30)
            return compute(items)

        batcher._compute = wait


def connect(client):
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)


def received(connection):
    """All that comes until the server closes."""
    pieces = []
    while piece := connection.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces).decode()


def head(length, path="/predict", **headers):
    lines = [f"POST {path} HTTP/1.1", "host: a", "content-type: application/json", f"content-length: {length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        (b"{", 400, "body: expected JSON"),
        (b"\xff\xfe\xff", 400, "body: expected JSON"),
        (b"[" * 9000, 400, "body: expected JSON"),
        (b"[1]", 422, "body: expected an object, got [1]"),
        (b"{}", 422, "texts: expected either texts, a list, or text"),
        (b'{"texts": "w1"}', 422, "texts: expected a list, got 'w1'"),
        (b'{"texts": []}', 422, "texts: expected at least 1"),
        (b'{"texts": ["w1", 7]}', 422, "texts[1]: expected a string"),
        (b'{"text": ["w1", "w2"]}', 422, "texts[0]: expected a string, as the model"),
        (b'{"text": "w1", "texts": ["w1"]}', 422, "texts: expected either"),
        (b'{"txt": "w1"}', 422, "txt: no such field; did you mean text?"),
        (b'{"text": "w1", "top_k": 0}', 422, "top_k: expected at least 1, got 0"),
        (b'{"text": "w1", "top_k": true}', 422, "top_k: expected a whole number, got True"),
        (b'{"inputs": []}', 422, "inputs: expected a string, a list of strings"),
        (b'{"text": "w1", "model": "other"}', 404, "model: expected one of single, got 'other'"),
        (json.dumps({"texts": ["w1"] * 65}).encode(), 413, "texts: expected at most 64, got 65"),
        (json.dumps({"text": "w" * 20_000}).encode(), 413, "body: expected at most 20,000 bytes"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_line(client, body, status, line):
    response = client.post("/predict", content=body, headers=JSON)
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert line in response.json()["error"] and "\n" not in response.json()["error"]


def test_paths_methods_and_kinds(client):
    assert client.get("/predit").status_code == 404
    assert "did you mean /predict?" in client.get("/predit").json()["error"]
    response = client.get("/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert client.post("/predict", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/predict", content=b"{}").status_code == 415


def test_a_body_that_is_too_long_is_not_read(client):
    with connect(client) as connection:
        connection.sendall(head(10**12))
        assert received(connection).startswith("HTTP/1.1 413")
    with connect(client) as connection:  # no length, and no end
        connection.sendall(head(0).replace(b"content-length: 0", b"transfer-encoding: chunked"))
        connection.sendall((b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 8)
        assert received(connection).startswith("HTTP/1.1 413")
    with connect(client) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\na: " + b"b" * 70_000)
        assert received(connection).startswith("HTTP/1.1 431")
    with connect(client) as connection:
        connection.sendall(b"hello, is it me\r\n\r\n")
        answer = received(connection)
        assert answer.startswith("HTTP/1.1 400") and answer.endswith('{"error": "request: expected HTTP/1.1"}')


def test_slow_clients_are_cut_off_and_hold_nobody_up(client):
    slow = [connect(client) for _ in range(6)]
    for number, connection in enumerate(slow):
        connection.sendall((head(100) + b'{"te', b"POST /pre", b"")[number % 3])
    start = time.monotonic()
    assert post(client, "/predict", text="w1")[0] == 200
    assert time.monotonic() - start < 0.9
    for connection in slow:
        answer = received(connection)
        assert answer.startswith("HTTP/1.1 408") and '{"error": "' in answer
        connection.close()
    assert time.monotonic() - start < 6


def test_texts_of_clients_that_have_gone_are_dropped(folders):
    with serving({"single": folders / "single"}) as client:
        queue = client.service.models["single"].texts
        gate = Gate(queue)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(post, client, "/predict", text="w1")
            assert gate.entered.wait(10)
            body = b'{"texts": ["w2", "w3"]}'
            leaving, half_closed = connect(client), connect(client)
            for connection in (leaving, half_closed):
                connection.sendall(head(len(body)) + body)
            wait_until(lambda: queue.waiting == 4)
            leaving.close()
            half_closed.shutdown(socket.SHUT_WR)
            wait_until(lambda: queue.waiting == 0)
            assert received(half_closed) == ""
            gate.opened.set()
            assert first.result()[0] == 200
        assert gate.sizes == [1] and client.service.active == 0
        half_closed.close()
        assert 'status="499"} 2.0' in client.get("/metrics").text


def test_the_queue_is_bounded_and_what_waits_is_one_batch(folders):
    with serving({"single": folders / "single"}, max_waiting=8, max_texts=8) as client:
        queue = client.service.models["single"].texts
        gate = Gate(queue)
        with ThreadPoolExecutor(9) as pool:
            waiting = [pool.submit(post, client, "/predict", text="w1")]
            assert gate.entered.wait(10)
            waiting += [pool.submit(post, client, "/predict", text=f"w{number}") for number in range(7)]
            wait_until(lambda: queue.waiting == 7)
            response = client.post("/predict", content=b'{"texts": ["w1", "w2"]}', headers=JSON)
            assert (response.status_code, response.headers["retry-after"]) == (429, "1")
            assert 'amsdff_waiting{queue="single"} 7.0' in client.get("/metrics").text
            gate.opened.set()
            assert {each.result()[0] for each in waiting} == {200}
        assert gate.sizes == [1, 7]
        counts = client.get("/metrics").text
        assert 'amsdff_requests_total{path="/predict",status="200"} 8.0' in counts
        assert 'amsdff_requests_total{path="/predict",status="429"} 1.0' in counts
        assert 'amsdff_texts_total{model="single"} 8.0' in counts


def test_predictions_do_not_wait_for_explanations(folders):
    with serving({"single": folders / "single"}) as client:
        gate = Gate(client.service.explanations)
        with ThreadPoolExecutor(20) as pool:
            waiting = [pool.submit(post, client, "/explain", text="w1")]
            assert gate.entered.wait(10)
            waiting += [pool.submit(post, client, "/explain", text="w1") for _ in range(17)]
            wait_until(lambda: client.service.explanations.waiting == 16)
            assert post(client, "/predict", text="w1")[0] == 200
            gate.opened.set()
            assert sorted(each.result()[0] for each in waiting) == [200] * 17 + [429]


def test_a_fault_tells_the_client_nothing_and_the_log_no_text(folders, caplog):
    caplog.set_level("INFO")
    with serving({"single": folders / "single"}) as client:

        def fail(items):
            raise RuntimeError(f"secret {items}")

        client.service.models["single"].texts._compute = fail
        assert post(client, "/predict", text="secret w1") == (
            500, {"error": "a fault inside the server; its log names the place"},
        )  # fmt: skip
        client.get("/secret?secret")
    assert "secret" not in "".join(record.getMessage() for record in caplog.records if "httpx" not in record.name)
    assert re.search(r"/predict 500 \d+\.\d ms 1 texts", caplog.text) and "RuntimeError at" in caplog.text


def test_a_text_that_would_take_all_day_to_explain(folders):
    models = {name: folders / name for name in ("windows", "single")}
    text = "w1 " * 11  # 33 characters, of which the model of single texts reads no more than fits it
    with serving(models, max_explained_characters=32) as client:
        assert post(client, "/explain", text=text) == (
            413, {"error": "text: expected at most 32 characters to explain, got 33; send a part of it"},
        )  # fmt: skip
        assert post(client, "/predict", text=text)[0] == 200
        page = client.post("/", data={"text": text, "model": "windows"})
        assert page.status_code == 200 and "at most 32 characters to explain" in page.text
        assert post(client, "/explain", text=text[:32])[0] == 200
        assert post(client, "/explain", text=text, model="single")[0] == 200


def test_a_request_behind_another_costs_it_nothing(folders):
    """Both in one piece, of which the first one's body is longer than any head may be."""
    body = json.dumps({"text": "w1 " * 40_000}).encode()
    with (
        serving({"single": folders / "single"}, max_body_bytes=1_000_000) as client,
        connect(client) as connection,
    ):
        first, second = head(len(body)) + body, head(2, connection="close")
        connection.sendall(first[:100])
        time.sleep(0.1)
        connection.sendall(first[100:] + second[:40])
        time.sleep(0.1)
        connection.sendall(second[40:] + b"{}")
        answers = received(connection)
    assert answers.startswith("HTTP/1.1 200 ") and "HTTP/1.1 422 " in answers


def test_more_connections_than_may_be_are_told_so(folders):
    with serving({"single": folders / "single"}, max_connections=4) as client:
        open_ones = [connect(client) for _ in range(3)]  # beside the client's own
        with connect(client) as one_more:
            one_more.sendall(head(100_000) + b" " * 90_000)
            answer = received(one_more)
        assert answer.startswith("HTTP/1.1 503 ") and "retry-after: 1" in answer
        assert json.loads(answer.split("\r\n\r\n")[1])["error"].startswith("connections: at most 4 at a time")
        open_ones.pop().close()
        wait_until(lambda: asks(client) == 200)
        for one in open_ones:
            one.close()


def asks(client):
    """The status of a request on a connection of its own."""
    body = b'{"text": "w1"}'
    with connect(client) as connection:
        connection.sendall(head(len(body), connection="close") + body)
        return int(received(connection).split()[1])


def test_a_token(folders):
    with serving({"single": folders / "single"}, wait=False, token="s3cret") as client:
        wait_until(lambda: client.get("/ready").status_code == 200)
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "Basic s3cret"}):
            for path in ("/info", "/metrics", "/", "/nowhere"):
                response = client.get(path, headers=headers)
                assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/health").status_code == 200
        assert client.get("/info", headers={"authorization": "Bearer s3cret"}).status_code == 200


def test_what_waits_is_answered_at_the_end_and_nothing_new(folders):
    with serving({"single": folders / "single"}) as client:
        gate = Gate(client.service.models["single"].texts)
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(post, client, "/predict", text="w1")]
            assert gate.entered.wait(10)
            waiting.append(pool.submit(post, client, "/predict", text="w2"))
            wait_until(lambda: client.service.models["single"].texts.waiting == 1)
            client.stop()
            wait_until(lambda: client.get("/ready").status_code == 503)
            status, found = post(client, "/predict", text="w3")
            assert status == 503 and "shutting down" in found["error"]
            assert client.get("/health").status_code == 200
            gate.opened.set()
            assert [each.result()[0] for each in waiting] == [200, 200]


def test_what_takes_longer_than_the_end_may_take_is_told_so(folders):
    with serving({"single": folders / "single"}, drain_s=0.1) as client:
        gate = Gate(client.service.models["single"].texts)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(post, client, "/predict", text="w1")
            assert gate.entered.wait(10)
            client.stop()
            try:
                status, found = waiting.result()
            finally:
                gate.opened.set()
            assert status == 503 and "shutting down" in found["error"]


def test_the_command_ends_with_0_after_sigterm(folders, tmp_path):
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    arguments = [f"--model=a={folders / 'single'},b={folders / 'number'}", "--port=0", f"--token_file={token}"]
    (tmp_path / "output.txt").touch()
    script = Script(tmp_path / "output.txt", "serve.py", *arguments)
    try:
        wait_until(lambda: "ready after" in script.output, 180)
        address = re.search(r"http://127.0.0.1:(\d+)", script.output)
        with socket.create_connection(("127.0.0.1", int(address[1])), timeout=20) as connection:
            body = b'{"text": "w1 w2", "model": "b"}'
            connection.sendall(head(len(body), authorization="Bearer s3cret", connection="close") + body)
            assert '"interval": [' in received(connection)
        os.kill(script.process.pid, signal.SIGTERM)
        assert script.wait(30) == 0, script.output
    finally:
        script.process.kill()
    assert re.search(r"/predict 200 \d+\.\d ms 1 texts", script.output) and "w2" not in script.output


def test_mistakes_of_the_command(folders, tmp_path):
    code, output = run_script(tmp_path / "output.txt", "serve.py", "--model=x", hidden=["starlette", "uvicorn"])
    assert (code, output) == (
        2,
        "error: serve: needs starlette, uvicorn, not installed; pip install starlette uvicorn\n",
    )
    with pytest.raises(UserError, match="two models are called 'a'"):
        name_models(["a=x", "a=y"])
    assert list(name_models([str(folders / "single"), f"b={folders / 'multi'}"])) == ["single", "b"]
    assert list(name_models(["runs/reviews/model", "runs/topics/model/"])) == ["reviews", "topics"]
    with pytest.raises(UserError, match="--token_file="):
        serve(["x"], token_file=str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="choose another"):
        serve([str(folders / "single")], port=taken.getsockname()[1])


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
