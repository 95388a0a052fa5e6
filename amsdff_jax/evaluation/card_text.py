"""A model card from facts: Markdown with the Hub's metadata, by `model_card.md.j2`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from amsdff_jax.evaluation.multi_label_calibration import NEVER
from amsdff_jax.interop.sequence_classification import is_native
from amsdff_jax.models.model_folder import FolderConfig
from amsdff_jax.reporting.render import render
from amsdff_jax.reporting.table import Code, Column, Table, columns

# Of the table of metrics, by task: titles, and names of metrics.
COLUMNS = {
    "single": {
        "texts": "examples",
        "accuracy": "accuracy",
        "macro F1": "macro_f1",
        "weighted F1": "weighted_f1",
        "cross-entropy": "log_loss",
        "Brier": "brier",
        "ECE": "ece",
    },
    "ordinal": {
        "texts": "examples",
        "quadratic weighted kappa": "quadratic_weighted_kappa",
        "MAE (steps)": "mae",
        "off-by-one accuracy": "off_by_one_accuracy",
        "accuracy": "accuracy",
        "macro F1": "macro_f1",
        "cross-entropy": "log_loss",
        "ECE": "ece",
    },
    "regression": {
        "texts": "examples",
        "MAE": "mae",
        "RMSE": "rmse",
        "R²": "r2",
        "Spearman": "spearman",
        "median absolute error": "median_absolute_error",
    },
    "multi_label": {
        "texts": "examples",
        "subset accuracy": "accuracy",
        "micro F1": "micro_f1",
        "macro F1": "macro_f1",
        "average precision": "average_precision",
        "sample F1": "sample_f1",
        "Hamming loss": "hamming_loss",
        "label ranking AP": "label_ranking_average_precision",
        "ECE": "ece",
    },
}
KEY_AND_VALUE = [Column("", "text"), Column("", "text")]

FEW_TEXTS = 30  # of a class in training, below which the card warns
WEAKEST = 3  # classes that the card names, if there are more

# What the Hub lists, by task: (type, name, metric).
_F1 = ("f1", "macro F1", "macro_f1")
_RESULTS = {
    "single": (("accuracy", "accuracy", "accuracy"), _F1),
    "ordinal": (
        ("cohen_kappa", "quadratic weighted kappa", "quadratic_weighted_kappa"),
        ("mae", "MAE (steps)", "mae"),
        ("accuracy", "accuracy", "accuracy"),
    ),
    "regression": (("mae", "MAE", "mae"), ("rmse", "RMSE", "rmse"), ("spearmanr", "Spearman", "spearman")),
    "multi_label": (("accuracy", "subset accuracy", "accuracy"), ("f1", "micro F1", "micro_f1"), _F1),
}

Facts = Mapping[str, Any]


def card_text(config: FolderConfig, facts: Facts, calibration: Facts | None, has_tokenizer: bool) -> str:
    """The whole card.

    Args:
      config: of the model folder.
      facts: what its `card.json` holds.
      calibration: what its `calibration.json` holds, if there is one.
      has_tokenizer: whether texts can be given to it, and not only token ids.
    """
    metrics, training = _ordered(facts.get("metrics", {})), facts.get("training", {})
    split, values = next(iter(metrics.items()), ("", {}))
    number = config.task == "regression"
    classes = values["per_class"] if metrics and not number else ()
    measured = sorted((row for row in classes if row["support"]), key=lambda row: row["f1"])
    title = f"{config.model.name}, {config.class_names[0] if number else f'{len(config.class_names)} classes'}"
    return render(
        "model_card.md.j2",
        metadata=_metadata(title, config, metrics, training),
        title=title,
        config=config,
        native=is_native(config.model),
        conversion=facts.get("conversion"),
        training=training,
        data_table=_data_table(config, training) if training else None,
        metrics_table=_metrics_table(metrics, COLUMNS[config.task]) if metrics else None,
        split=split,
        values=values,
        class_table=_class_table(classes, training),
        calibration_table=None if calibration is None else _calibration_table(config, calibration),
        weakest=measured[:WEAKEST] if len(classes) > WEAKEST else [],
        unmeasured=[row["class"] for row in classes if not row["support"]],
        few_texts=FEW_TEXTS,
        rare=_rare(config, training) if training and not number else [],
        training_table=_training_table(training) if training else None,
        has_tokenizer=has_tokenizer,
    )


def _ordered(metrics: Facts) -> dict[str, Facts]:
    """By split or file: test first, then validation, then the rest: the first is what the card goes by."""
    first = [name for name in ("test", "validation") if name in metrics]
    return {name: metrics[name] for name in [*first, *(name for name in metrics if name not in first)]}


def _metadata(title: str, config: FolderConfig, metrics: Mapping[str, Facts], training: Facts) -> str:
    data = training.get("data", "")
    results = [
        EvalResult(
            task_type="text-classification",
            task_name="Text classification",
            dataset_type=data.replace(" ", "-"),
            dataset_name=data,
            dataset_split=split,
            metric_type=kind,
            metric_name=name,
            metric_value=round(values[metric], 6),
        )
        for split, values in metrics.items()
        if data and split in ("test", "validation")
        for kind, name, metric in _RESULTS[config.task]
        if values[metric] is not None
    ]
    return ModelCardData(
        library_name="transformers" if is_native(config.model) else "amsdff-jax",
        pipeline_tag="text-classification",
        tags=["text-classification", "jax", "pytorch", config.model.name],
        base_model=training.get("base_model") or None,
        metrics=list(dict.fromkeys(kind for kind, _, _ in _RESULTS[config.task])) if metrics else None,
        model_name=title if results else None,
        eval_results=results or None,
    ).to_yaml()


def _data_table(config: FolderConfig, training: Facts) -> Table:
    rows = []
    if config.task == "regression":
        return Table(columns("split", "texts"), [(split, f"{number:,}") for split, number in training["texts"].items()])
    for split, number in training["texts"].items():
        counts = training["class_counts"][split]
        order = sorted(range(len(counts)), key=counts.__getitem__)
        extremes = (f"{config.class_names[index]} ({counts[index]:,})" for index in (order[0], order[-1]))
        rows.append((split, f"{number:,}", *extremes))
    return Table([*columns("split", "texts"), Column("smallest class", "text"), Column("largest class", "text")], rows)


def _metrics_table(metrics: Mapping[str, Facts], names: Mapping[str, str]) -> Table:
    rows = [(split, *(_number(values.get(name)) for name in names.values())) for split, values in metrics.items()]
    return Table(columns("split", *names), rows)


def _class_table(classes: Sequence[Facts], training: Facts) -> Table:
    seen = training.get("class_counts", {}).get("train")
    rows = []
    for index, row in enumerate(classes):
        numbers = [row[name] for name in ("precision", "recall", "f1", "support")] + ([seen[index]] if seen else [])
        rows.append((row["class"], *map(_number, numbers)))
    more = ("texts in training",) if seen else ()
    return Table(columns("class", "precision", "recall", "F1", "texts", *more), rows)


def _calibration_table(config: FolderConfig, calibration: Facts) -> Table:
    rows = list(_flat(calibration))
    thresholds = calibration.get("thresholds", ())
    for name, threshold in zip(config.class_names, thresholds, strict=False):
        rows.append((f"threshold of {name}", "never given" if threshold == NEVER else _number(threshold)))
    return Table(KEY_AND_VALUE, rows)


def _flat(values: Facts, prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is None or isinstance(value, (str, int, float)):
            yield f"{prefix}{name}", value if isinstance(value, str) else _number(value)


def _rare(config: FolderConfig, training: Facts) -> list[str]:
    counts = zip(config.class_names, training["class_counts"]["train"], strict=True)
    return [name for name, count in counts if count < FEW_TEXTS]


def _training_table(training: Facts) -> Table:
    rows = [
        ("parameters", f"{training['num_parameters']:,}"),
        ("encoder", training["base_model"] or training["settings"]["model"]["encoder"] or "random"),
        ("seed", str(training["seed"])),
        ("steps", f"{training['steps']:,}"),
        ("kept", f"step {training['best_step']:,}, {_why_kept(training)}"),
        ("device", training["device"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in training["versions"].items())),
        *((Code(name), Code(str(value))) for name, value in training["changed"].items()),
    ]
    return Table(KEY_AND_VALUE, rows)


def _why_kept(training: Facts) -> str:
    metric, keep_best = training["best_metric"], training["settings"]["train"].get("keep_best", True)
    return f"best validation {metric}" if keep_best else "the last"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
