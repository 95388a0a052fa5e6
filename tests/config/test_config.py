"""Settings: every mistake is named, and every file in configs/ is valid."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from amsdff_jax import Config, UserError, default_config
from amsdff_jax.base.validation import field_names
from amsdff_jax.config import EncoderConfig, LossConfig, TrainConfig, field_roles, renamed
from amsdff_jax.config.idle_settings import find_idle_settings
from amsdff_jax.training.optimizer import peak_learning_rates

# tests/experiments has these
EXPERIMENTS = ("ablations", "experiments", "few_shot", "fine_tuning", "long_texts", "multi_label", "precision")
CONFIGS = [
    file for file in sorted((Path(__file__).parents[2] / "configs").glob("*.py")) if file.stem not in EXPERIMENTS
]


def load(file: Path):
    specification = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_config_file_is_valid_and_says_how_it_is_run(file):
    module = load(file)
    config = Config.from_dict(module.get_config())
    assert hash(config) == hash(Config.from_dict(module.get_config()))
    assert f"--config=configs/{file.name}" in module.__doc__


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_setting_of_a_config_file_decides_something(file):
    assert find_idle_settings(Config.from_dict(load(file).get_config())) == {}


@pytest.mark.parametrize(
    ("idle", "beside"),
    [
        ({"data__window_overlap": 8}, {}),
        ({"data__max_windows": 2}, {"data__long_texts": "head_tail"}),
        ({"loss__focal_gamma": 3.0}, {"loss__focal": 0.0}),
        ({"loss__smoothing": 0.2}, {"loss__label_smoothing": 0.0}),
        ({"loss__temperature": 0.1}, {"loss__contrastive": 0.0}),
        ({"model__encoder_config": "sizes.json"}, {"model__encoder": "minilm-l6"}),
        ({"model__kernel_sizes": (3,)}, {"model__multi_scale": False}),
        ({"model__kernel_sizes": (3,)}, {"model__name": "linear"}),
        ({"model__num_experts": 2}, {"model__fusion": False}),
        ({"model__num_attention_heads": 4}, {"model__multi_scale": False, "model__pools": ("max",)}),
        ({"model__num_attention_heads": 4}, {"model__name": "lstm"}),
        ({"data__validation_fraction": 0.2}, {"data__validation_file": "validation.csv"}),
        ({"data__validation_fraction": 0.2}, {"data__source": "bundled"}),
        ({"data__num_buckets": 2}, {"data__buckets": (64, 256)}),
        ({"data__num_buckets": 2}, {"model__mask_padding": False}),
        ({"data__dataset": "imdb_reviews"}, {"data__source": "files"}),
        ({"data__label_column": "kind"}, {"data__source": "tfds"}),
        ({"data__label_columns": "a,b"}, {"data__source": "bundled"}),
        ({"data__label_feature": "kind"}, {"data__source": "tfds", "data__rater_columns": "a,b"}),
        ({"data__quoting": "none"}, {"data__source": "files", "data__train_file": "all.jsonl.gz"}),
        ({"data__validation_fraction": 0.2}, {"data__source": "huggingface", "data__validation_split": "dev"}),
        ({"train__encoder_delay": 0.1}, {"train__encoder_learning_rate": 0.0}),
        ({"train__decay_all": True}, {"train__weight_decay": 0.0}),
        ({"train__encoder_learning_rate": 1e-4}, {"model__lora_rank": 8}),
        ({"model__lora_alpha": 16.0}, {"model__lora_rank": 0}),
    ],
)
def test_a_setting_that_another_makes_idle_is_found(idle, beside):
    (name,) = idle
    assert list(find_idle_settings(Config().replace(**idle, **beside))) == [name.replace("__", ".")]
    assert find_idle_settings(Config().replace(**beside)) == {}


def test_settings_that_decide_something_are_not_idle():
    assert (
        find_idle_settings(Config().replace(loss__focal=0.0, loss__focal_gamma=3.0, train__best_metric="loss_focal"))
        == {}
    )
    assert find_idle_settings(Config().replace(model__name="transformer", model__num_attention_heads=4)) == {}
    assert find_idle_settings(Config().replace(model__multi_scale=False, model__num_attention_heads=4)) == {}


def test_reference_config_is_the_published_one():
    config = Config.from_dict(load(CONFIGS[0].parent / "reference.py").get_config())
    assert not config.model.mask_padding
    assert (config.train.head_learning_rate, config.train.encoder_learning_rate) == (5e-6, 5e-6)
    assert (config.train.batch_size, config.train.epochs, config.data.max_length) == (16, 5, 256)
    assert config.train.decay_all


def test_the_rates_of_the_quickstart_are_those_of_its_results():
    names = ["transformer.embeddings.word_embeddings.weight", "transformer.transformer.layer.0.ffn.lin1.weight",
             "classifier.8.bias"]  # fmt: skip
    config = Config.from_dict(load(CONFIGS[0].parent / "quickstart.py").get_config())
    assert peak_learning_rates(names, config.train) == dict(zip(names, (0.0, 2e-4, 2e-4), strict=True))
    frozen = peak_learning_rates(names, config.replace(train__encoder_learning_rate=0.0).train)
    assert frozen == dict(zip(names, (0.0, 0.0, 2e-4), strict=True))


def test_defaults_survive_the_config_dict():
    assert Config.from_dict(default_config()) == Config()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"epcohs": 3}}, r"train\.epcohs: no such field; did you mean epochs\?"),
        ({3: {}}, "3: no such field"),
        ({"train": None}, "train: expected names and values, got None"),
        ([("seed", 3)], "settings: expected names and values, got"),
        ({"trian": {}}, r"trian: no such field; did you mean train\?"),
        ({"train": {"epochs": "three"}}, r"train\.epochs: expected a whole number, got 'three'"),
        ({"train": {"epochs": True}}, r"train\.epochs: expected a whole number, got True"),
        ({"train": {"epochs": 2.5}}, r"train\.epochs: expected a whole number"),
        ({"model": {"kernel_sizes": (1, 4)}}, r"model\.kernel_sizes: expected one or more odd positive numbers"),
        ({"model": {"compute_dtype": "bfloat"}}, r"model\.compute_dtype.*did you mean bfloat16\?"),
        ({"model": {"num_classes": 1}}, r"model\.num_classes"),
        ({"model": {"num_classes": 3}, "task": {"kind": "regression"}}, r"model\.num_classes: expected 0 or 1"),
        ({"loss": {"mse": 0.0}}, r"loss\.mse: expected above 0"),
        ({"loss": {"huber_delta": 0.0}}, r"loss\.huber_delta: expected above 0"),
        ({"data": {"source": "tdfs"}}, r"data\.source.*did you mean tfds\?"),
        ({"data": {"buckets": (32, 16)}}, r"data\.buckets: expected rising lengths that end in data\.max_length=256"),
        ({"data": {"validation_fraction": 1.0}}, r"data\.validation_fraction"),
        ({"train": {"accumulation_steps": 5}}, r"train\.accumulation_steps: expected a divisor of"),
        ({"train": {"head_learning_rate": float("nan")}}, r"train\.head_learning_rate"),
        ({"train": {"learning_rate_table": (("(", 0.1),)}}, r"'\(' is not a regular expression"),
        ({"train": {"learning_rate_table": (("a", -0.1),)}}, r"'a': expected 0 or more, got -0\.1"),
        ({"seed": -1}, "seed: expected from 0 to 4294967295, got -1"),
        ({"train": {"learning_rate_table": (("a", 0.1, 3),)}}, r"train\.learning_rate_table"),
        ({"loss": {"ce": 0.0, "focal": 0.0, "label_smoothing": 0.0}}, r"loss\.ce"),
        (
            {"loss": {"ce": 0.0, "focal": 0.0, "label_smoothing": 0.0, "contrastive": 1.0}},
            r"loss\.ce: expected above 0",
        ),
        (
            {"train": {"learning_rate": 1e-3, "head_learning_rate": 5e-4}},
            r"train\.head_learning_rate: given as 0\.0005, and as 0\.001 under its former name train\.learning_rate",
        ),
        ({"train": {"learning_rate": "fast"}}, r"train\.head_learning_rate: expected a number, got 'fast'"),
        ({"train": {"trackers": "mlflow, tensorbord"}}, r"train\.trackers.*got 'tensorbord'|did you mean tensorboard"),
        ({"loss": {"class_weights": "balance"}}, r"loss\.class_weights.*did you mean balanced\?"),
    ],
)
def test_mistakes_are_named(values, message):
    with pytest.raises(UserError, match=message):
        Config.from_dict(values)


def test_tuples_may_come_as_text_or_as_lists():
    assert Config.from_dict({"loss": {"class_weights": "(1, 2.5)"}}).loss.class_weights == (1.0, 2.5)
    assert Config.from_dict({"model": {"kernel_sizes": [3, 5]}}).model.kernel_sizes == (3, 5)


def test_replace_reaches_into_sections():
    changed = Config().replace(train__epochs=7, seed=3)
    assert (changed.train.epochs, changed.seed, changed.data) == (7, 3, Config().data)
    assert changed.replace(train=TrainConfig(), loss={"ce": 1.0}) == Config().replace(seed=3, loss__ce=1.0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trian__epochs": 1}, r"^trian\.epochs: no such field; did you mean train\.epochs\?"),
        ({"model__epochs": 1}, r"^model\.epochs: no such field; did you mean train\.epochs\?"),
        ({"train__epcohs": 1}, r"^train\.epcohs: no such field; did you mean train\.epochs\?"),
        ({"epochs": 1}, r"^epochs: no such field; did you mean train\.epochs\?"),
        ({"train__epochs__more": 1}, r"^train\.epochs\.more: no such field"),
        ({"__": 1}, "no such field"),
        ({"trian": TrainConfig()}, r"^trian: no such field; did you mean train\?"),
        ({"train": 3}, r"^train: expected names and values, got 3"),
        ({"train": {"epcohs": 3}}, r"^train\.epcohs: no such field; did you mean epochs\?"),
        ({"train": LossConfig()}, r"^train\.ce: no such field"),
    ],
)
def test_replacing_what_there_is_not_names_what_there_is(fields, message):
    with pytest.raises(UserError, match=message):
        Config().replace(**fields)


def test_hidden_size_must_split_into_scales_and_heads():
    with pytest.raises(UserError, match=r"model\.kernel_sizes.*number of scales that divides .* 100"):
        Config().model.check_hidden_size(100)
    with pytest.raises(UserError, match=r"model\.num_attention_heads.*number of heads that divides .* 12"):
        Config().model.check_hidden_size(12)
    with pytest.raises(UserError, match="multiple of n_heads=7"):
        EncoderConfig(n_heads=7)


def test_every_role_is_that_of_a_setting():
    names = field_names(dataclasses.asdict(Config()))
    roles = {role: fields for role, fields in vars(field_roles).items() if role.isupper() and role != "INPUT_PREFIXES"}
    assert not {role: set(fields) - set(names) for role, fields in roles.items() if not set(fields) <= set(names)}
    assert all(any(name.startswith(prefix) for name in names) for prefix in field_roles.INPUT_PREFIXES)


def test_a_setting_is_taken_under_its_former_name_and_says_so_once(caplog):
    expected = Config().replace(train__head_learning_rate=3e-3)
    old = default_config()
    old.train.learning_rate = 3e-3
    renamed.tell.cache_clear()
    assert Config.from_dict(old) == expected
    assert Config.from_dict({"train": {"learning_rate": 3e-3}}) == expected
    assert Config.from_dict({"train": {"learning_rate": 3e-3, "head_learning_rate": 3e-3}}) == expected
    assert Config().replace(train__learning_rate=3e-3) == expected
    assert Config().replace(train={"learning_rate": 3e-3}) == expected
    assert caplog.messages == ["train.learning_rate is now called train.head_learning_rate, and is taken for it"]
    old.train.head_learning_rate = 2e-3
    with pytest.raises(UserError, match=r"train\.head_learning_rate: given as 0\.002, and as 0\.003"):
        Config.from_dict(old)
