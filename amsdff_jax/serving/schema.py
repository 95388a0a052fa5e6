"""What requests may hold: JSON Schema that validates them, and that `/openapi.json` shows."""

from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import nearest, require, shown

Schema = dict[str, Any]

_TYPES: dict[str, tuple[type, str]] = {
    "string": (str, "a string"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
    "array": (list, "a list"),
    "object": (dict, "an object"),
}

_STRING: Schema = {"type": "string"}
_PAIR: Schema = {"type": "array", "items": _STRING, "minItems": 2, "maxItems": 2}
_TEXT: Schema = {"anyOf": [_STRING, _PAIR], "description": "a string, or a list of two for a model of pairs"}
_MODEL: Schema = {"type": "string", "description": "one of the names in /info; by default the first"}


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


PREDICT = _object(
    [],
    texts={"type": "array", "items": _TEXT, "minItems": 1, "description": "a list of texts"},
    text=_TEXT,
    top_k={"type": "integer", "minimum": 1, "description": "as many of the most likely classes are told"},
    model=_MODEL,
)
INPUTS = _object(
    ["inputs"],
    inputs={
        "anyOf": [
            _STRING,
            {"type": "array", "items": _STRING, "minItems": 1},
            {
                "type": "array",
                "items": {"type": "array", "items": _STRING, "minItems": 1, "maxItems": 2},
                "minItems": 1,
            },
        ],
        "description": "a string, a list of strings, or a list of lists of one or two strings",
    },
    raw_scores={"type": "boolean", "description": "logits in place of probabilities"},
    truncate={"type": "boolean", "description": "decides nothing: long texts are always read as /info says"},
    model=_MODEL,
)
CLASSIFY = _object(
    ["input"],
    input={
        "anyOf": [_STRING, {"type": "array", "items": _STRING, "minItems": 1}],
        "description": "a string or a list of strings",
    },
    model=_MODEL,
    user=_STRING,
)
EXPLAIN = _object(["text"], text=_STRING, class_name=_STRING, model=_MODEL)
TRY = _object(["text"], text=_STRING, second=_STRING, model=_MODEL)


def validate(value: Any, schema: Schema, field: str = "") -> None:
    """Checks a value from outside.

    Raises:
      UserError: it is not as the schema says; the message names the field.
    """
    if "anyOf" in schema:
        require(any(_fits(value, choice) for choice in schema["anyOf"]), field, value, schema["description"])
        return
    kind, expected = _TYPES[schema["type"]]
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    require(fits, field or "body", value, expected)
    if isinstance(value, dict):
        _validate_fields(value, schema, field)
    elif isinstance(value, list):
        least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
        require(least <= len(value) <= most, field, value, f"{least} items" if least == most else f"at least {least}")
        for place, item in enumerate(value):
            validate(item, schema["items"], f"{field}[{place}]")
    elif isinstance(value, int) and "minimum" in schema:
        require(value >= schema["minimum"], field, value, f"at least {schema['minimum']}")


def _validate_fields(values: dict[str, Any], schema: Schema, field: str) -> None:
    prefix = f"{field}." if field else ""
    for name, value in values.items():
        if name not in schema["properties"]:
            known = ", ".join(schema["properties"])
            hint = nearest(name, schema["properties"]) or f"; expected {known}"
            raise UserError(f"{prefix}{shown(name)[1:-1]}: no such field{hint}")
        validate(value, schema["properties"][name], f"{prefix}{name}")
    for name in schema["required"]:
        if name not in values:
            raise UserError(f"{prefix}{name}: not given; expected {schema['properties'][name].get('type', 'texts')}")


def _fits(value: Any, schema: Schema) -> bool:
    try:
        validate(value, schema)
    except UserError:
        return False
    return True


def openapi(version: str) -> Schema:
    """The description of all paths, in the form of OpenAPI 3.1."""

    def operation(summary: str, body: Schema | None = None) -> Schema:
        failures = ("400", "401", "408", "413", "415", "422", "429", "500", "503") if body else ("401", "503")
        error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
        responses: Schema = {"200": {"description": "the answer"}}
        responses |= {status: {"description": "one line that says why", "content": error} for status in failures}
        content = {"content": {"application/json": {"schema": body}}, "required": True}
        return {"summary": summary, "responses": responses} | ({"requestBody": content} if body else {})

    read = {
        "/health": "whether the process is alive",
        "/ready": "whether it takes texts",
        "/metrics": "numbers for Prometheus",
        "/info": "models and limits",
        "/openapi.json": "this description",
        "/": "a page to try a text on",
    }
    written = {
        "/predict": (
            "labels and probabilities; with `inputs` as text-embeddings-inference",
            {"anyOf": [PREDICT, INPUTS]},
        ),
        "/classify": ("labels and probabilities, as vLLM has them", CLASSIFY),
        "/explain": ("why a text gets its label", EXPLAIN),
    }
    paths: Schema = {path: {"get": operation(summary)} for path, summary in read.items()}
    paths |= {path: {"post": operation(summary, body)} for path, (summary, body) in written.items()}
    error = _object(["error"], error=_STRING)
    return {
        "openapi": "3.1.0",
        "info": {"title": "amsdff serve", "version": version},
        "paths": paths,
        "components": {
            "schemas": {"Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
