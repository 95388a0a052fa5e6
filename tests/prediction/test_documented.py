"""The examples of the page on Python run as they stand there."""

import re
import shutil
from pathlib import Path

import pyarrow
import pytest

import amsdff_jax
from amsdff_jax import EnhancedAMSDFF
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.models.model_folder import SavedModel, save_model
from tests.conftest import TINY_HEAD

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0][:40])
def test_examples_are_python_and_name_what_there_is(block):
    compile(block, PAGE.name, "exec")
    for name in re.findall(r"amsdff_jax\.(\w+)", block):
        assert hasattr(amsdff_jax, name), name


@pytest.mark.slow  # explains, saves and loads, each with its compilation
def test_examples_on_data_and_models_run(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 2, seed=3, **TINY_HEAD)
    save_model("runs/agnews/model", SavedModel(model, load_tokenizer(tiny_encoder), ("World", "Business"), 24))
    Path("reviews.csv").write_text("title,body,stars\na,b,1\nc,,5\n")
    names = {
        "amsdff_jax": amsdff_jax,
        "frame": pyarrow.table({"body": ["a", "b"], "stars": [1, 5]}),
        "columns": {"text": ["a"], "label": ["pos"]},
    }
    for block in BLOCKS:
        if "TextDataset" in block or 'from_pretrained("runs' in block:
            exec(block, names)
    assert names["test_data"].labels.tolist() == [1]
    shutil.rmtree("runs")
    kept = amsdff_jax.Classifier.from_pretrained("model-to-keep")
    assert kept.predict("Stocks fell on Monday") == names["prediction"]
