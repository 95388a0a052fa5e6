"""Settings that decide nothing because of another, which whoever sets them is told."""

import re
from collections.abc import Callable
from typing import NamedTuple

from amsdff_jax.config import Config


class _Rule(NamedTuple):
    """Settings by their dotted names, when they decide nothing, and who decides instead."""

    settings: tuple[str, ...]
    idle: Callable[[Config], bool]
    reason: str


_TABLES = ("data.column_names", "data.delimiter", "data.quoting")
_NO_TABLE = re.compile(r"\.(json|jsonl|ndjson|parquet)(\.gz|\.zst)?$", re.IGNORECASE)
_FILES = (
    *("data.train_file", "data.validation_file", "data.test_file"),
    *("data.text_column", "data.text_pair_column", "data.label_column"),
    *_TABLES,
)
_LABELS = (
    *("data.label_type", "data.label_separator", "data.label_columns", "data.label_hierarchy"),
    *("data.label_order", "data.rater_columns"),
)
_PUBLISHED = (
    *("data.dataset", "data.data_dir", "data.text_features", "data.text_pair_feature", "data.label_feature"),
    *("data.train_split", "data.validation_split", "data.test_split"),
)
_AMSDFF = (
    *("model.kernel_sizes", "model.num_experts", "model.multi_scale", "model.fusion", "model.pools"),
    *("model.expert_dropout_rate", "model.pooling_dropout_rate", "model.classifier_dropout_rates"),
)
_LORA = ("model.lora_alpha", "model.lora_dropout", "model.lora_targets")
_CLASS_LOSS = (
    *("loss.ce", "loss.focal", "loss.label_smoothing", "loss.contrastive", "loss.class_weights"),
    *("loss.focal_alpha", "loss.focal_gamma", "loss.smoothing", "loss.temperature"),
)
_HEADS = ("model.num_attention_heads", "model.attention_dropout_rate")

# What their table leaves to the learning rates is not here: `training.optimizer` knows it.
_RULES = (
    _Rule(
        _FILES, lambda config: config.data.source != "files", "data.source is not files (--config.data.source=files)"
    ),
    _Rule(
        _LABELS,
        lambda config: config.data.source not in ("files", "tfds", "huggingface"),
        "data.source is not files (--config.data.source=files)",
    ),
    _Rule(
        _PUBLISHED,
        lambda config: config.data.source not in ("tfds", "huggingface"),
        "data.source is not tfds (--config.data.source=tfds) and not huggingface",
    ),
    _Rule(
        ("data.label_column", "data.label_type"),
        lambda config: bool(config.data.label_columns),
        "data.label_columns hold the labels",
    ),
    _Rule(("data.label_column",), lambda config: bool(config.data.rater_columns), "data.rater_columns hold the labels"),
    _Rule(
        ("data.label_feature",),
        lambda config: bool(config.data.label_columns or config.data.rater_columns),
        "data.label_columns or data.rater_columns hold the labels",
    ),
    _Rule(_TABLES, lambda config: not _reads_tables(config), "no file is a table, .csv or .tsv"),
    _Rule(
        ("data.validation_fraction",),
        lambda config: _has_validation_split(config),
        "there is a validation split, which is taken whole",
    ),
    _Rule(
        ("data.num_buckets", "data.buckets"),
        lambda config: not config.model.mask_padding,
        "with model.mask_padding=False all texts are padded to data.max_length",
    ),
    _Rule(
        ("data.window_overlap", "data.max_windows"),
        lambda config: config.data.long_texts != "windows",
        "data.long_texts is not windows (--config.data.long_texts=windows)",
    ),
    _Rule(("data.num_buckets",), lambda config: bool(config.data.buckets), "data.buckets has the lengths themselves"),
    _Rule(
        ("model.encoder_config",),
        lambda config: bool(config.model.encoder),
        "model.encoder brings its own; for a random encoder of these sizes empty it, --config.model.encoder=",
    ),
    _Rule(_AMSDFF, lambda config: config.model.name != "amsdff", "model.name is a baseline, which has no such part"),
    _Rule(("model.kernel_sizes",), lambda config: not config.model.multi_scale, "model.multi_scale=False"),
    _Rule(
        ("model.num_experts", "model.expert_dropout_rate"), lambda config: not config.model.fusion, "model.fusion=False"
    ),
    _Rule(_LORA, lambda config: not config.model.lora_rank, "model.lora_rank=0, so that there are no adapters"),
    _Rule(
        ("train.encoder_learning_rate",),
        lambda config: bool(config.model.lora_rank),
        "model.lora_rank freezes the encoder's weights, whose adapters learn at train.head_learning_rate",
    ),
    _Rule(_HEADS, lambda config: not _has_attention_heads(config), "this model has no attention with heads"),
    _Rule(
        ("loss.focal_alpha", "loss.focal_gamma"),
        lambda config: not config.loss.focal and config.train.best_metric != "loss_focal",
        "loss.focal=0",
    ),
    _Rule(
        ("loss.smoothing",),
        lambda config: not config.loss.label_smoothing and config.train.best_metric != "loss_label_smoothing",
        "loss.label_smoothing=0",
    ),
    _Rule(("loss.temperature",), lambda config: not config.loss.contrastive, "loss.contrastive=0"),
    _Rule(
        (*_CLASS_LOSS, "data.label_type"),
        lambda config: config.task.kind == "regression",
        "task.kind=regression, whose labels are numbers and whose loss is loss.mse and loss.huber",
    ),
    _Rule(
        ("loss.mse", "loss.huber", "loss.huber_delta"),
        lambda config: config.task.kind != "regression",
        "task.kind is not regression (--config.task.kind=regression)",
    ),
    _Rule(("loss.huber_delta",), lambda config: not config.loss.huber, "loss.huber=0"),
    _Rule(
        ("train.data_dependent_init", "train.linear_probe"),
        lambda config: bool(config.train.init_from),
        "train.init_from has all layers to begin with",
    ),
    _Rule(
        ("train.best_metric",),
        lambda config: not config.train.keep_best,
        "train.keep_best=False, which keeps the last weights",
    ),
    _Rule(("train.decay_all",), lambda config: not config.train.weight_decay, "train.weight_decay=0"),
    _Rule(
        ("train.encoder_delay",),
        lambda config: (
            not (config.train.encoder_learning_rate or config.train.learning_rate_table or config.model.lora_rank)
        ),
        "train.encoder_learning_rate=0 freezes the encoder",
    ),
)


def find_idle_settings(config: Config) -> dict[str, str]:
    """The settings that are not at their default and decide nothing, by dotted name, and who decides instead."""
    defaults, found = Config(), {}
    for rule in _RULES:
        if rule.idle(config):
            for name in rule.settings:
                section, field = name.split(".")
                if getattr(getattr(config, section), field) != getattr(getattr(defaults, section), field):
                    found.setdefault(name, rule.reason)
    return found


def _has_validation_split(config: Config) -> bool:
    data = config.data
    if data.source in ("tfds", "huggingface"):
        return bool(data.validation_split)
    return {"bundled": True, "files": bool(data.validation_file)}.get(data.source, False)


def _reads_tables(config: Config) -> bool:
    files = (config.data.train_file, config.data.validation_file, config.data.test_file)
    given = [file for file in files if file]
    return not given or not all(map(_NO_TABLE.search, given))


def _has_attention_heads(config: Config) -> bool:
    model = config.model
    return model.name == "transformer" or (model.name == "amsdff" and (model.multi_scale or "query" in model.pools))
