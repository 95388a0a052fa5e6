"""From model folders to a server that runs until it is stopped."""

import asyncio
import logging
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import model_name, user_errors, user_path
from amsdff_jax.parallel.hosts import exit_at_once
from amsdff_jax.serving.limits import Limits

logger = logging.getLogger(__name__)

# The extra `serve`: modules, and what pip calls them.
NEEDED = {
    "httptools": "httptools",
    "prometheus_client": "prometheus-client",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
}


def serve(
    models: Sequence[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: str = "",
    compute_dtype: str = "",
    limits: Limits | None = None,
) -> None:
    """Serves models until SIGTERM or SIGINT.

    Args:
      models: a folder, or several as NAME=FOLDER; the first is the default of requests.
      host: address to listen on.
      port: 0: any that is free; the log names it.
      token_file: a file with the token that requests must bear; "": they need none.
      compute_dtype: "float32", "bfloat16" or "auto"; "": as saved.
      limits: by default those of `Limits`.

    Raises:
      UserError: something is not installed, a folder or file is not as it should be, or the port is taken.
    """
    absent = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if absent:
        raise UserError(f"serve: needs {', '.join(absent)}, not installed; pip install {' '.join(absent)}")
    from amsdff_jax.serving.served_model import ServedModel
    from amsdff_jax.serving.server import listen, run, stop_on_signals
    from amsdff_jax.serving.service import Service

    limits = limits or Limits()
    named = name_models(models)
    token = _read_token(token_file) if token_file else ""
    with listen(host, port) as listener:
        loaded = [ServedModel(name, folder, limits, compute_dtype) for name, folder in named.items()]
        address = listener.getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        if not token and not (address[0].startswith("127.") or address[0] == "::1"):
            logger.warning("anybody who reaches %s may ask: give --token_file, or a --host such as 127.0.0.1", shown)
        logger.info("compiling %s; listening on http://%s:%d", ", ".join(named), shown, address[1])

        async def until_stopped() -> Service:
            stop = asyncio.Event()
            stop_on_signals(asyncio.get_running_loop(), stop)
            service = Service(loaded, limits, token)
            await run(service, listener, stop)
            return service

        service = asyncio.run(until_stopped())
    logger.info("stopped")
    if not service.close(timeout_s=1.0):  # a thread that computes or compiles would keep the process
        exit_at_once(0)


def name_models(models: Sequence[str]) -> dict[str, str]:
    """Folders by name; one without a name is called as `model_name` says.

    Raises:
      UserError: no model, or two of one name.
    """
    named: dict[str, str] = {}
    for model in models:
        match = re.fullmatch(r"([\w.-]+)=(.+)", model)
        name, folder = match.groups() if match else (model_name(model), model)
        if name in named:
            raise UserError(f"--model: two models are called {name!r}; name them, as in --model=a={folder},b=FOLDER")
        named[name] = str(user_path(folder)) if user_path(folder).is_dir() else folder
    if not named:
        raise UserError("--model: expected a model folder, or several as NAME=FOLDER,NAME=FOLDER")
    return named


def _read_token(file: str) -> str:
    path: Path = user_path(file)
    with user_errors(f"--token_file={file}", "read"):
        content = path.read_bytes()
    token = content.decode("utf-8", "replace").strip()
    if not re.fullmatch(r"[!-~]+", token):
        raise UserError(f"--token_file={file}: expected one line of printable ASCII without spaces")
    return token
