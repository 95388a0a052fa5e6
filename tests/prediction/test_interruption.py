"""Predictions that are killed and stopped at any moment, and gone on with."""

import os
import random
import signal

import pytest

from amsdff_jax import EnhancedAMSDFF
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.models.model_folder import SavedModel, save_model
from tests.conftest import TINY_HEAD, WORDS
from tests.processes import Disturbance, Script, run_script

pytestmark = [pytest.mark.slow, pytest.mark.interruption]

KILLS = int(os.environ.get("KILLS", "12"))
ROWS = 6000


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_every_row_is_there_once_after_any_number_of_interruptions(tiny_encoder, name, tmp_path):
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 3, seed=3, **TINY_HEAD)
    save_model(tmp_path / "model", SavedModel(model, load_tokenizer(tiny_encoder), ("a", "b", "c"), 24))
    choice = random.Random(name)
    with (tmp_path / "d.csv").open("w") as file:
        file.write("id,text\n")
        file.writelines(f"{row},{' '.join(choice.choices(WORDS, k=choice.randint(1, 9)))}\n" for row in range(ROWS))

    def arguments(output):
        return (
            f"--model={tmp_path / 'model'}", f"--file={tmp_path / 'd.csv'}", f"--output={output}", "--resume",
            "--keep_columns=id", "--batch_size=8",
        )  # fmt: skip

    assert run_script(tmp_path / "log", "predict.py", *arguments(tmp_path / f"whole-{name}"))[0] == 0
    codes = {signal.SIGINT: 75, signal.SIGTERM: 75, signal.SIGKILL: -signal.SIGKILL}
    for _ in range(KILLS):
        number = choice.choice([*codes])
        moment = Disturbance("predicting", choice.randint(1, 3), choice.choice([0, 0.3]) * choice.random(), (number,))
        script = Script(tmp_path / "log", "predict.py", *arguments(tmp_path / name), disturbance=moment)
        code = script.wait()
        assert code in (codes[number], 0), script.output
        assert "Traceback" not in script.output
    assert run_script(tmp_path / "log", "predict.py", *arguments(tmp_path / name))[0] == 0
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
