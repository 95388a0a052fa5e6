"""Servers on loopback: in a thread of this process, with models of random weights."""

import asyncio
import contextlib
import json
import threading
import time
from pathlib import Path

import httpx
import pytest

from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.data.windows import Windows
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import write_calibration
from amsdff_jax.evaluation.model_card import write_model_card
from amsdff_jax.evaluation.regression_calibration import RegressionCalibration
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.model_folder import SavedModel, save_model

NAMES = ("low", "<b>high</b>", "other")
NUMBERS = ("price",)


@pytest.fixture(scope="package")
def folders(tiny_encoder, tmp_path_factory) -> Path:
    """A calibrated model of three classes, one of several labels, one of numbers, and one of pairs."""
    root, tokenizer = tmp_path_factory.mktemp("served"), load_tokenizer(tiny_encoder)
    single = LinearClassifier.from_pretrained(str(tiny_encoder), 3, seed=3)
    save_model(root / "single", SavedModel(single, tokenizer, NAMES, 24, reads_pairs=False))
    write_calibration(root / "single", Calibration(NAMES, 1.5, 0.4, 0.9, label_probability=0.3, coverage=0.9))
    for name, names, fields in (
        ("multi", NAMES, {"task": "multi_label"}),
        ("number", NUMBERS, {"task": "regression"}),
        ("pairs", NAMES, {"reads_pairs": True}),
    ):
        model = LinearClassifier.from_pretrained(str(tiny_encoder), len(names), seed=4)
        save_model(root / name, SavedModel(model, tokenizer, names, 24, **fields))
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 3, seed=4)
    model.read_in_windows(Windows(9, 2, 1, 1))
    save_model(root / "windows", SavedModel(model, tokenizer, NAMES, 9, long_texts="windows"))
    write_model_card(root / "single")
    write_calibration(root / "number", RegressionCalibration(NUMBERS, 0.5, 0.9))
    return root


@contextlib.contextmanager
def serving(models, wait=True, **limits):
    """A client of a server of these models (folder by name), which is stopped at the end."""
    pytest.importorskip("starlette", reason="needs the extra serve")
    from amsdff_jax.serving.limits import Limits
    from amsdff_jax.serving.served_model import ServedModel
    from amsdff_jax.serving.server import listen, run
    from amsdff_jax.serving.service import Service

    token = limits.pop("token", "")
    bounds = Limits(**{"max_texts": 64, "max_body_bytes": 20_000, "read_timeout_s": 1.0, "drain_s": 5.0} | limits)
    loaded = [ServedModel(name, str(folder), bounds) for name, folder in models.items()]
    with listen("127.0.0.1", 0) as listener:
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        service = Service(loaded, bounds, token)
        thread = threading.Thread(target=lambda: loop.run_until_complete(run(service, listener, stop)))
        thread.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60) as client:
            client.service = service
            client.stop = lambda: loop.call_soon_threadsafe(stop.set)
            try:
                while wait and client.get("/ready").status_code != 200:
                    time.sleep(0.05)
                yield client
            finally:
                client.stop()
                thread.join(20)
                service.close(5)
                assert not thread.is_alive()


def post(client, path, **values):
    """Status and content of an answer."""
    response = client.post(path, content=json.dumps(values), headers={"content-type": "application/json"})
    return response.status_code, response.json()
