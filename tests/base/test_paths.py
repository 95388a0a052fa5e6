"""A tilde is the home folder, wherever a path is given."""

import os
import shutil
from pathlib import Path

import pytest

from amsdff_jax import Config, UserError, load_data, load_model
from amsdff_jax.base.files import user_path
from amsdff_jax.config import DataConfig
from amsdff_jax.conversion.convert import describe, from_torch, to_torch
from amsdff_jax.conversion.verify import verify
from amsdff_jax.explanation.write import write_explanations
from amsdff_jax.inspection.inspect import inspect_data
from amsdff_jax.interop.encoder_files import read_encoder_config
from amsdff_jax.prediction.evaluate import evaluate_run
from amsdff_jax.prediction.run import predict
from amsdff_jax.training.torch_state import read_run_state
from tests.conftest import write_csv
from tests.processes import ROOT, run_script

NOWHERE = "~/file.txt/below"
CALLS = {
    "evaluate": lambda: evaluate_run(NOWHERE),
    "run state": lambda: read_run_state(NOWHERE),
    "model": lambda: load_model(NOWHERE),
    "describe": lambda: describe(NOWHERE),
    "to_torch": lambda: to_torch(NOWHERE, "x.pt"),
    "from_torch": lambda: from_torch(NOWHERE, "x"),
    "verify": lambda: verify(NOWHERE, "x.pt"),
    "encoder config": lambda: read_encoder_config(NOWHERE),
    "explain": lambda: write_explanations("x", ["text"], NOWHERE),
    "inspect": lambda: inspect_data(Config(), "x", NOWHERE),
    "inspect json": lambda: inspect_data(Config(), "x", "~/page.html", NOWHERE),
    "predict": lambda: predict(NOWHERE, ["text"]),
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("")
    return tmp_path


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_call_expands_the_tilde(call, home):
    with pytest.raises(UserError, match=f"{home}/file.txt"):
        call()
    assert not (home / "~").exists()


def test_data_may_lie_at_home(home):
    write_csv(home / "x.csv", ["a b", "c", "d", "e"], ["p", "q", "p", "q"])
    assert len(load_data(DataConfig(train_file="~/x.csv", validation_file="~/x.csv")).validation) == 4


def test_a_config_file_may_lie_at_home(home):
    shutil.copy(ROOT / "configs" / "files.py", home / "mine.py")
    code, output = run_script(home / "log", "train.py", "--config=~/mine.py", HOME=str(home))
    assert code == 2 and "data.train_file: not given" in output


def test_what_is_no_home_folder_stays():
    for path in ("a/~", "~nobody-of-this-name/x", "./~/x", "/x"):
        assert str(user_path(path)) == str(Path(path))
    assert user_path("~") == Path(os.environ["HOME"])
