"""Models on the hub, which here is a server on loopback."""

import json
import os
import subprocess
import sys

import pytest

from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import write_calibration
from amsdff_jax.evaluation.model_card import record_conversion
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.model_folder import SavedModel, save_model
from tests.hub_server import Hub
from tests.processes import ROOT

NAMES = ("low", "high")

# In a process of its own, because huggingface_hub reads its environment once. It leaves what it has seen in a file.
SCRIPT = """
import json, sys
import amsdff_jax
from pathlib import Path

folder, seen = Path(sys.argv[1]), {}

def line(call):
    try:
        return str(call())
    except amsdff_jax.UserError as error:
        return f"error: {error}"

load = amsdff_jax.Classifier.from_pretrained
classifier = load(folder)
seen["first"] = classifier.push_to_hub("org/model", private=True)
classifier.calibration = None  # of which nothing may stay behind in the repository
seen["second"] = classifier.push_to_hub("org/model")
now, before = load("org/model"), load("org/model", revision=seen["first"].rsplit("/", 1)[1])
seen["read"] = [
    (model.class_names, model.max_length, model.calibration and model.calibration.temperature)
    for model in (now, before)
]
seen["public"] = line(lambda: classifier.push_to_hub("org/public"))
seen["refused"] = line(lambda: classifier.push_to_hub("org/not a name"))
seen["missing"] = line(lambda: load("org/nothing"))
seen["revision"] = line(lambda: load("org/model", revision="v9"))
seen["folder"] = line(lambda: load(folder, revision="main"))
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def folder(tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "model"
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 2)
    save_model(folder, SavedModel(model, load_tokenizer(tiny_encoder), NAMES, 24))
    write_calibration(folder, Calibration(NAMES, 2.5))
    record_conversion(folder, "origin.pt", "a checkpoint")
    return folder


def test_what_is_pushed_is_the_folder_and_comes_back(folder, tmp_path):
    with Hub() as hub:
        hub.repositories["org/public"] = {"private": False, "commits": [{"notes.txt": b"x"}]}
        own = {"HF_ENDPOINT": hub.url, "HF_TOKEN": hub.TOKEN, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", SCRIPT, str(folder)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    _, first, second = hub.repositories["org/model"]["commits"]
    assert hub.repositories["org/model"]["private"]
    assert first.keys() == {file.name for file in folder.iterdir()}
    for name in ("model.safetensors", "tokenizer.json", "calibration.json", "card.json", "README.md"):
        assert first[name] == (folder / name).read_bytes(), name
    assert first.keys() - second.keys() == {"calibration.json"}
    assert seen["read"] == [[list(NAMES), 24, None], [list(NAMES), 24, 2.5]]
    assert seen["second"].startswith(f"{hub.url}/org/model/commit/")
    assert "org/public: not pushed to the hub (is public already; push with private=False" in seen["public"]
    assert hub.repositories["org/public"]["commits"] == [{"notes.txt": b"x"}]
    assert seen["refused"].startswith("error: org/not a name: not pushed to the hub (")
    assert seen["missing"].startswith("error: org/nothing: neither a folder nor a model on the hub (404")
    assert "neither a folder nor the revision 'v9' of a model on the hub" in seen["revision"]
    assert "revision 'main' is given, but this is no hub id" in seen["folder"]
    assert not any("\n" in seen[name] for name in ("public", "refused", "missing", "revision", "folder"))
