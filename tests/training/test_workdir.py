"""What a run may be resumed with, what it may not, and that one process at a time writes in its folder."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from amsdff_jax import UserError
from amsdff_jax.config import Config, EncoderConfig
from amsdff_jax.config.encoder_families import read_encoder_values
from amsdff_jax.config.field_roles import SESSION_FIELDS, START_FIELDS
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.training.inputs import RunInputs, SplitRecord, check_split, record_test_split
from amsdff_jax.training.workdir import lock_workdir, open_workdir, read_run_config
from tests.tiny_encoders import TINY, new_families


def make_dataset(name: str, number: int = 5, **fields) -> TextDataset:
    texts = {"texts": [f"{name} {index}" for index in range(number)], "labels": np.arange(number) % 2}
    return TextDataset(**{**texts, "class_names": ("low", "high"), "name": name, **fields})


TRAIN, VALIDATION, TEST = (make_dataset(f"{name}.csv") for name in ("train", "validation", "test"))
INPUTS = RunInputs(TRAIN.class_names, EncoderConfig(), SplitRecord.of(TRAIN), SplitRecord.of(VALIDATION))

# A value other than the default.
CHANGES = {
    "parallel.mode": "pmap", "model.attention": "xla", "model.rematerialize": True, "train.eval_batch_size": 7,
    "train.evaluate_every": 3, "train.patience": 2, "train.checkpoint_every": 9, "train.log_every": 1,
    "train.trackers": "", "train.init_from": "a.pt", "train.data_dependent_init": False,
    "train.linear_probe": True, "model.reinit_encoder": True,
}  # fmt: skip


def change(name: str, value) -> Config:
    return Config().replace(**{name.replace(".", "__"): value})


@pytest.fixture
def workdir(tmp_path):
    """The folder of a run that has saved a checkpoint."""
    folder = tmp_path / "run"
    open_workdir(folder, Config(), INPUTS)
    (folder / "checkpoints" / "latest" / "3").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", SESSION_FIELDS)
def test_what_changes_no_weight_may_change(name, workdir, caplog):
    open_workdir(workdir, change(name, CHANGES[name]), INPUTS)
    assert f"resumes with {name}={CHANGES[name]!r} (was " in caplog.text
    assert read_run_config(workdir) == change(name, CHANGES[name])


@pytest.mark.parametrize("name", START_FIELDS)
def test_what_only_the_start_reads_is_left_as_it_was(name, workdir, caplog):
    assert open_workdir(workdir, change(name, CHANGES[name]), INPUTS) == Config()
    assert f"from its checkpoint, which {name} does not change" in caplog.text
    assert read_run_config(workdir) == Config()


@pytest.mark.parametrize(
    ("name", "value"),
    [("data.train_file", "moved.csv"), ("data.tokenizer", "moved"), ("data.source", "tfds"),
     ("data.validation_fraction", 0.5), ("model.encoder", "moved"), ("model.encoder_config", "moved.json")],
)  # fmt: skip
def test_where_the_inputs_come_from_may_change_if_they_are_the_same(name, value, workdir, caplog):
    assert open_workdir(workdir, change(name, value), INPUTS) == change(name, value)
    assert f"resumes with {name}={value!r} (was " in caplog.text
    assert read_run_config(workdir) == change(name, value)
    (workdir / "inputs.json").unlink()  # as in a run of an earlier version, of which nothing is known
    with pytest.raises(UserError, match=rf"{name} was '?{value}.*use another --workdir"):
        open_workdir(workdir, Config(), INPUTS)


def test_a_run_keeps_the_name_of_the_encoder_whose_weights_it_began_with(workdir, caplog):
    recorded = dataclasses.replace(INPUTS, encoder_checksum=5)
    recorded.write(workdir)
    moved = change("model.encoder", "moved")
    for _ in range(2):  # the run still knows its own after the first
        assert open_workdir(workdir, moved, dataclasses.replace(INPUTS, encoder_checksum=6)) == Config()
    assert "from its checkpoint, which model.encoder does not change" in caplog.text
    assert open_workdir(workdir, moved, recorded) == moved == read_run_config(workdir)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 1), ("model.name", "cnn"), ("model.compute_dtype", "bfloat16"), ("data.max_length", 99),
     ("data.long_texts", "head_tail"), ("data.window_overlap", 3), ("data.max_windows", 3),
     ("data.num_buckets", 3), ("loss.ce", 0.5), ("train.epochs", 5),
     ("train.batch_size", 16), ("train.head_learning_rate", 0.1), ("train.best_metric", "loss"),
     ("train.accumulation_steps", 2)],
)  # fmt: skip
def test_what_changes_weights_is_refused_with_a_way_out(name, value, workdir):
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(
        UserError, match=rf"run: .*{name} was .*, is {value!r}.*--layout=trainer .*/run FILE.pt.*--init"
    ):
        open_workdir(workdir, change(name, value), INPUTS)
    assert (workdir / "config.json").read_bytes() == before


def test_a_run_that_has_ended_gets_no_more_patience(workdir):
    (workdir / "model").mkdir()
    with pytest.raises(UserError, match=r"train\.patience was 0, is 2"):
        open_workdir(workdir, change("train.patience", 2), INPUTS)


@new_families
def test_inputs_say_which_encoder_it_was(family, tmp_path):
    inputs = dataclasses.replace(INPUTS, encoder=read_encoder_values(TINY[family]))
    inputs.write(tmp_path)
    assert RunInputs.read(tmp_path) == inputs
    (difference,) = inputs.differences(INPUTS)
    assert f"model_type was {inputs.encoder.model_type}, is distilbert" in difference


def test_without_a_checkpoint_a_run_begins_anew(tmp_path):
    open_workdir(tmp_path, Config(), INPUTS)
    others = dataclasses.replace(INPUTS, train=SplitRecord.of(TEST))
    open_workdir(tmp_path, change("train.epochs", 5), others)
    assert read_run_config(tmp_path) == change("train.epochs", 5)
    assert RunInputs.read(tmp_path) == others


def test_runs_of_other_versions_are_resumed(workdir, caplog):
    file = workdir / "config.json"
    content = json.loads(file.read_text())
    del content["model"]["rematerialize"], content["loss"], content["seed"]
    content["train"]["of_tomorrow"] = content["mode_of_tomorrow"] = 3
    file.write_text(json.dumps(content))
    open_workdir(workdir, Config(), INPUTS)
    assert "config.json: train.of_tomorrow, mode_of_tomorrow: of another version" in caplog.text
    assert "resumes with" not in caplog.text
    assert json.loads(file.read_text())["model"]["rematerialize"] is False


def test_a_run_of_before_a_setting_was_renamed_is_resumed(workdir, caplog):
    file = workdir / "config.json"
    content = json.loads(file.read_text())
    content["train"]["learning_rate"] = content["train"].pop("head_learning_rate")
    file.write_text(json.dumps(content))
    assert read_run_config(workdir) == Config()
    open_workdir(workdir, Config(), INPUTS)
    assert not caplog.messages  # it is none of the user's doing
    with pytest.raises(UserError, match=r"train\.head_learning_rate was 0\.0005, is 0\.1"):
        open_workdir(workdir, change("train.head_learning_rate", 0.1), INPUTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": SplitRecord.of(make_dataset("train.csv", 6))},
         r"other training data \(train.csv: 5 texts; now train.csv: 6\)"),
        ({"validation": SplitRecord.of(make_dataset("validation.csv", labels=np.ones(5)))}, "other validation data"),
        ({"validation": SplitRecord.of(make_dataset("validation.csv", text_pairs=["x"] * 5))}, "other validation data"),
        ({"class_names": ("high", "low")}, "other classes .number 0 was 'low', is 'high'"),
        ({"class_names": ("low", "high", "top")}, "other classes .number 2 was None, is 'top'"),
        ({"encoder": EncoderConfig(dropout=0.5)}, "another encoder .dropout was 0.1, is 0.5"),
        ({"tokens": "others"}, "other tokens of the same training texts, as of another tokenizer"),
    ],
)  # fmt: skip
def test_other_inputs_are_refused(changes, message, workdir):
    dataclasses.replace(INPUTS, tokens="these").write(workdir)
    before = (workdir / "config.json").read_bytes()
    now = dataclasses.replace(INPUTS, **{"tokens": "these"} | changes)
    with pytest.raises(UserError, match=f"run: holds a run with {message}.*another --workdir"):
        open_workdir(workdir, change("data.tokenizer", "elsewhere"), now)
    assert (workdir / "config.json").read_bytes() == before


def test_a_run_that_does_not_tell_its_tokens_forgets_nothing_when_others_are_tried(workdir):
    for tokens in ("others", "its own"):
        open_workdir(workdir, Config(), dataclasses.replace(INPUTS, tokens=tokens, encoder_checksum=3))
    assert RunInputs.read(workdir) == INPUTS


def test_a_split_that_has_changed_is_not_evaluated_as_the_runs(workdir, caplog):
    record_test_split(workdir, TEST)
    open_workdir(workdir, Config(), INPUTS)  # does not forget it
    for split, dataset in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        check_split(workdir, split, dataset)
        check_split(workdir, split, dataclasses.replace(dataset, name="moved.csv"))
        changed = dataset.take(np.array([0, 1, 2]), dataset.name)
        with pytest.raises(UserError, match=rf"{split}.csv: has other .*the {split} data .*5 then, 3 now.*--file"):
            check_split(workdir, split, changed)
    (workdir / "inputs.json").unlink()
    check_split(workdir, "train", TEST)
    assert "does not say what data" in caplog.text


@pytest.mark.parametrize("content", ["", "{}", '{"train": 3}', '{"class_names": [1], "encoder": {"dim": "x"}}'])
def test_a_damaged_record_of_inputs_is_named(content, workdir):
    (workdir / "inputs.json").write_text(content)
    with pytest.raises(UserError, match=r"inputs\.json: .*delete it"):
        open_workdir(workdir, Config(), INPUTS)


def test_one_process_at_a_time(workdir):
    holder = (
        "import fcntl, sys; a = open(sys.argv[1]); fcntl.flock(a, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, workdir / ".lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="run: another process is training there"), lock_workdir(workdir):
            pass
        process.kill()
    with lock_workdir(workdir), lock_workdir(workdir):  # what a killed process held is free
        pass


@pytest.mark.parametrize("place", ["file", "below a file", "dangling link", "circle"])
def test_a_folder_that_cannot_be_made_is_named(place, tmp_path):
    path = tmp_path / "x"
    if place == "dangling link":
        path.symlink_to(tmp_path / "nothing")
    elif place == "circle":
        path.symlink_to(path)
    else:
        path.write_text("")
    path = path / "run" if place == "below a file" else path
    with pytest.raises(
        UserError, match=r"x(/run)?: cannot be written \(a file, or a link to nothing.*another --workdir"
    ):
        open_workdir(path, Config(), INPUTS)
