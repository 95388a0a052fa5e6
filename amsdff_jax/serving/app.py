"""The paths of the server, as an ASGI application."""

import asyncio
import dataclasses
import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from importlib import metadata
from typing import Any
from urllib.parse import parse_qsl

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import to_json
from amsdff_jax.base.validation import nearest, shown
from amsdff_jax.explanation.facts import text_facts
from amsdff_jax.prediction.lines import make_layout
from amsdff_jax.prediction.prediction import NumberPrediction
from amsdff_jax.reporting.escape import percent
from amsdff_jax.reporting.render import render
from amsdff_jax.reporting.table import Column, Table, columns
from amsdff_jax.serving.answers import (
    NotFiniteError,
    classification,
    inputs_as_texts,
    label_scores,
    records,
    require_classes,
)
from amsdff_jax.serving.batching import FullError
from amsdff_jax.serving.schema import CLASSIFY, EXPLAIN, INPUTS, PREDICT, TRY, Schema, openapi, validate
from amsdff_jax.serving.served_model import Score, ServedModel
from amsdff_jax.serving.service import Service

logger = logging.getLogger(__name__)

OPEN = ("/health", "/ready")  # for anybody, and until the end
ALWAYS = (*OPEN, "/metrics", "/info", "/openapi.json")  # need no model that is ready
CLIENT_GONE = 499  # as other servers count clients that did not wait; nobody receives it
CLOSE = {"connection": "close"}  # what is still coming of the request is not read
MOST_FIELDS = 10  # of a form
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class RefusedError(Exception):
    """A request that is answered with a status and one line that says why."""

    def __init__(self, status: int, line: str, headers: dict[str, str] | None = None):
        super().__init__(line)
        self.status, self.headers = status, headers or {}


def make_app(service: Service) -> ASGIApp:
    """The application."""
    paths = _Paths(service)
    routes = [
        Route("/predict", paths.predict, methods=["POST"]),
        Route("/classify", paths.classify, methods=["POST"]),
        Route("/explain", paths.explain, methods=["POST"]),
        Route("/health", paths.health),
        Route("/ready", paths.ready),
        Route("/metrics", paths.metrics),
        Route("/info", paths.info),
        Route("/openapi.json", paths.openapi),
        Route("/", paths.page),
        Route("/", paths.try_text, methods=["POST"]),
    ]

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return answer({"error": str(error)}, error.status, error.headers)

    def wrong(_: Request, error: Exception) -> Response:
        return answer({"error": str(error)}, 422)

    def no_path(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        known = [route.path for route in routes]
        line = f"{shown(request.url.path)[1:-1]}: no such path{nearest(request.url.path, known)}; see /openapi.json"
        if error.status_code == 405:
            line = f"{request.url.path}: expected {(error.headers or {}).get('Allow', 'another method')}"
        return answer({"error": line}, error.status_code, dict(error.headers or {}))

    def full(_: Request, error: Exception) -> Response:
        return answer({"error": "as many texts wait as may; send it again in a second"}, 429, {"retry-after": "1"})

    def not_finite(_: Request, error: Exception) -> Response:
        return answer({"error": str(error)}, 500)

    def gone(_: Request, error: Exception) -> Response:
        return Response(status_code=CLIENT_GONE)

    def fault(_: Request, error: Exception) -> Response:
        return answer({"error": "a fault inside the server; its log names the place"}, 500)

    handlers: Any = {
        RefusedError: refused, UserError: wrong, HTTPException: no_path, FullError: full, NotFiniteError: not_finite,
        ClientDisconnect: gone, Exception: fault,
    }  # fmt: skip
    return _Gate(service, Starlette(routes=routes, exception_handlers=handlers), {route.path for route in routes})


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, with an escape for a surrogate that stands alone."""
    body = to_json(content).encode("utf-8", "backslashreplace")
    return Response(body, status, {"x-content-type-options": "nosniff"} | (headers or {}), "application/json")


SHUTTING_DOWN = answer({"error": "the server is shutting down; ask another"}, 503, {"retry-after": "5"} | CLOSE)


class _Gate:
    """What every request passes: who may ask and when, the log, the counts."""

    def __init__(self, service: Service, app: ASGIApp, paths: set[str]):
        self._service, self._app, self._paths = service, app, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status, begun = time.perf_counter(), 500, False
        path = (
            scope["path"] if scope["path"] in self._paths else "other"
        )  # any other may hold what is nobody's business
        state = scope.setdefault("state", {})

        async def send_counted(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
            await send(message)

        self._service.active += 1
        try:
            early = self._refusal(scope, path)
            await (early or self._app)(scope, receive, send_counted)
        except asyncio.CancelledError:  # the time to finish is over, and uvicorn gives up what is still waiting
            if not self._service.draining or begun:
                raise
            await SHUTTING_DOWN(scope, receive, send_counted)
        except Exception as error:  # a fault of this package, which has been answered with 500
            frames = traceback.extract_tb(error.__traceback__)
            place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
            logger.error("%s: %s at %s", path, type(error).__name__, place)  # its message may quote a text
        finally:
            self._service.active -= 1
            seconds = time.perf_counter() - start
            self._service.metrics.observe_request(path, status, seconds)
            logger.info("%s %d %.1f ms %d texts", path, status, 1000 * seconds, state.get("texts", 0))

    def _refusal(self, scope: Scope, path: str) -> Response | None:
        """What to say to a request that is not read at all."""
        service = self._service
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if path not in OPEN and not service.admits(headers.get(b"authorization", "")):
            line = "authorization: expected Bearer and the token of this server"
            return answer({"error": line}, 401, {"www-authenticate": "Bearer"} | CLOSE)
        if path not in ALWAYS and service.draining:
            return SHUTTING_DOWN
        if path not in ALWAYS and scope["method"] == "POST" and not service.ready:
            return answer({"error": "the models are being compiled; see /ready"}, 503, {"retry-after": "5"} | CLOSE)
        return None


class _Paths:
    """What each path answers."""

    def __init__(self, service: Service):
        self._service = service

    async def predict(self, request: Request) -> Response:
        values = await self._read_json(request)
        as_inputs = isinstance(values, dict) and "inputs" in values
        self._validate(values, INPUTS if as_inputs else PREDICT)
        model = self._model(values)
        if as_inputs:
            require_classes(model)
            given, batch = inputs_as_texts(values["inputs"], model)
            _, scores = await self._score(request, model, given, "inputs")
            return answer(label_scores(model, scores, values.get("raw_scores", False), batch))
        if ("text" in values) == ("texts" in values):
            raise UserError("texts: expected either texts, a list, or text, a single one")
        given = values["texts"] if "texts" in values else [values["text"]]
        texts, scores = await self._score(request, model, given, "texts")
        layout = make_layout(model.classifier, top_k=values.get("top_k", 1))
        return answer({"predictions": records(texts, scores, layout)})

    async def classify(self, request: Request) -> Response:
        values = await self._read_json(request)
        self._validate(values, CLASSIFY)
        model = self._model(values)
        require_classes(model)
        given = [values["input"]] if isinstance(values["input"], str) else values["input"]
        _, scores = await self._score(request, model, given, "input")
        return answer(classification(model, scores))

    async def explain(self, request: Request) -> Response:
        values = await self._read_json(request)
        self._validate(values, EXPLAIN)
        item = (self._model(values), values["text"], values.get("class_name", ""))
        if problem := self._too_long(*item[:2]):
            raise RefusedError(413, problem)
        request.state.texts = 1
        [explanations] = await _until_gone(request, self._service.explanations.submit([item]))
        return answer([explanation.to_dict() for explanation in explanations])

    def _too_long(self, model: ServedModel, text: str) -> str:
        """Why a text is not explained: of one that is read to its end, an explanation takes hundreds of passes."""
        most = self._service.limits.max_explained_characters
        saved = model.classifier.saved
        if saved.task == "regression" or saved.long_texts != "windows" or len(text) <= most:
            return ""
        return f"text: expected at most {most:,} characters to explain, got {len(text):,}; send a part of it"

    async def health(self, _: Request) -> Response:
        return answer({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        if self._service.ready:
            return answer({"status": "ready"})
        line = "the server is shutting down" if self._service.draining else "the models are being compiled"
        return answer({"error": line}, 503)

    async def metrics(self, _: Request) -> Response:
        return Response(self._service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def info(self, _: Request) -> Response:
        models = [model.facts() for model in self._service.models.values()]
        limits = dataclasses.asdict(self._service.limits)
        return answer({"version": _version(), "models": models, "limits": limits})

    async def openapi(self, _: Request) -> Response:
        return answer(openapi(_version()))

    async def page(self, _: Request) -> Response:
        return self._show()

    async def try_text(self, request: Request) -> Response:
        """The page again, with what the model says of a text."""
        body = await self._read(request, "application/x-www-form-urlencoded")
        try:
            values = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS))
        except ValueError:
            raise RefusedError(400, f"body: expected a form of at most {MOST_FIELDS} fields") from None
        self._validate(values, TRY)
        model = self._model(values)
        text = values["text"].replace("\r\n", "\n")  # which forms make of every line's end
        pairs = bool(model.classifier.saved.reads_pairs)
        given = [[text, values.get("second", "")]] if pairs else [text]
        _, [score] = await self._score(request, model, given, "text")
        explained, note = None, self._too_long(model, text)
        if not note and not pairs and model.classifier.saved.task != "regression":
            try:
                waiting = self._service.explanations.submit([(model, text, "")])
                explained = text_facts((await _until_gone(request, waiting))[0][0])
            except FullError:
                note = "Too many explanations are waiting; try again in a second."
        return self._show(model, values, _shown_score(score), explained, note)

    def _show(
        self, model: ServedModel | None = None, values: dict[str, str] | None = None, score: Any = None,
        explained: Any = None, note: str = "",
    ) -> Response:  # fmt: skip
        models = self._service.models
        chosen = model or next(iter(models.values()))
        html = render(
            "serve.html.j2",
            models=list(models),
            chosen=chosen.name,
            pairs=any(each.classifier.saved.reads_pairs for each in models.values()),
            values={"text": "", "second": ""} | (values or {}),
            score=score,
            explained=explained,
            note=note,
        )
        headers = {"content-security-policy": PAGE_POLICY, "x-content-type-options": "nosniff"}
        return HTMLResponse(html.encode("utf-8", "replace"), headers=headers | {"referrer-policy": "no-referrer"})

    async def _read(self, request: Request, kind: str) -> bytes:
        """The body of a request.

        Raises:
          RefusedError: it is of another kind, too long, or comes too slowly.
        """
        limits = self._service.limits
        too_long = RefusedError(413, f"body: expected at most {limits.max_body_bytes:,} bytes; send fewer texts", CLOSE)
        if int(request.headers.get("content-length", 0)) > limits.max_body_bytes:
            raise too_long
        body = bytearray()
        try:
            async with asyncio.timeout(limits.read_timeout_s):
                async for piece in request.stream():
                    body += piece
                    if len(body) > limits.max_body_bytes:
                        raise too_long
        except TimeoutError:
            line = f"body: expected all of it within {limits.read_timeout_s:g} s; send it faster"
            raise RefusedError(408, line, CLOSE) from None
        # Not before: a connection that is closed while a client still sends may be reset before it reads the answer.
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given != kind:
            raise RefusedError(415, f"content-type: expected {kind}, got {shown(given)}")
        return bytes(body)

    async def _read_json(self, request: Request) -> Any:
        body = await self._read(request, "application/json")
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            place = f" ({error.msg} at character {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
            raise RefusedError(400, f"body: expected JSON in UTF-8, got something else{place}") from None

    def _validate(self, values: Any, schema: Schema) -> None:
        """Counts the texts before it looks at them."""
        most = self._service.limits.max_texts
        for name in ("texts", "inputs", "input"):
            given = values.get(name) if isinstance(values, dict) else None
            if isinstance(given, list) and len(given) > most:
                raise RefusedError(413, f"{name}: expected at most {most:,}, got {len(given):,}; send several requests")
        validate(values, schema)

    def _model(self, values: dict[str, Any]) -> ServedModel:
        models = self._service.models
        name = values.get("model") or next(iter(models))
        if name not in models:
            raise RefusedError(404, f"model: expected one of {', '.join(models)}, got {shown(name)}")
        return models[name]

    async def _score(
        self, request: Request, model: ServedModel, given: list[Any], field: str
    ) -> tuple[list[Any], list[Score]]:
        texts = model.read_texts(given, field)
        request.state.texts = len(texts)
        if self._service.draining:  # which may have begun while the body was read
            raise RefusedError(503, "the server is shutting down; ask another", {"retry-after": "5"} | CLOSE)
        return texts, await _until_gone(request, model.texts.submit(texts))


async def _until_gone(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """What `work` returns; it is cancelled when the client does not wait for it any more."""
    receive: Callable[[], Awaitable[Message]] = request.receive
    task, gone = asyncio.create_task(work), asyncio.ensure_future(receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


def _shown_score(score: Score) -> dict[str, Any]:
    """A prediction as the page shows it."""
    prediction = score.prediction
    if prediction is None:
        raise NotFiniteError
    if isinstance(prediction, NumberPrediction):
        interval = prediction.interval
        notes = [] if interval is None else [f"Interval: {interval[0]:.6g} to {interval[1]:.6g}"]
        return {"table": None, "value": f"{prediction.value:.6g}", "notes": notes}
    rows = [(label, percent(probability), probability) for label, probability in prediction.top_k]
    notes = ["The text was truncated to the model's maximal length."] * prediction.truncated
    notes += ["The model abstains: the probability is below its threshold."] * getattr(prediction, "abstained", False)
    if prediction.label_set is not None:
        notes.append(f"Label set: {', '.join(prediction.label_set) or 'none'}")
    table = Table([*columns("Class", "Probability"), Column("", "weight")], rows)
    return {"table": table, "value": "", "notes": notes}


def _version() -> str:
    try:
        return metadata.version("amsdff-jax")
    except metadata.PackageNotFoundError:  # in a clone that is not installed
        return "0"
