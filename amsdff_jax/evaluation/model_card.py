"""Keeps the `README.md` of a model folder: a model card in the Hub's format, made of what the folder holds.

What the card says beyond `config.json` is kept in `card.json`, so that the card can be written anew
wherever the folder has been moved: where the model comes from, and the metrics of every evaluation.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import is_url, read_json, user_path, write_json, write_text
from amsdff_jax.base.records import read_record, set_aside
from amsdff_jax.base.validation import flatten
from amsdff_jax.config import Config, DataConfig, LossConfig
from amsdff_jax.config.field_roles import PATHS
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.tokenization import has_tokenizer
from amsdff_jax.evaluation.calibration_file import CALIBRATION
from amsdff_jax.interop.hub import PACKAGED
from amsdff_jax.models.model_folder import read_model_config

FACTS, CARD = "card.json", "README.md"

# Settings of the data that say where a file has texts and labels, and what labels they are.
COLUMNS = (
    *("text_column", "text_pair_column", "label_column"),
    *("label_separator", "label_columns", "label_hierarchy", "label_type", "rater_columns"),
)


def write_model_card(folder: str | Path) -> None:
    """Writes `README.md` anew from the files in a model folder; call it when one has changed.

    Args:
      folder: with `config.json`, and, where there are any, `card.json` and `calibration.json`.

    Raises:
      UserError: `config.json` or `calibration.json` is damaged.
      OSError: the card cannot be written.
    """
    folder = user_path(folder)
    config = read_model_config(folder)
    file = folder / CALIBRATION
    calibration = read_json(file, "a calibration; calibrate again") if file.exists() else None
    write_text(folder / CARD, _card_text(config, _read_facts(folder), calibration, has_tokenizer(folder)))


def record_training(
    folder: str | Path,
    config: Config,
    splits: Mapping[str, TextDataset],
    metrics: Mapping[str, Mapping[str, Any]],
    *,
    steps: int,
    best_step: int,
) -> None:
    """Puts down how a model was trained and what it reaches, and writes the card.

    Args:
      folder: the model folder.
      config: of the run.
      splits: the data by split, `train` among them.
      metrics: the report's metrics by split.
      steps: updates of the whole run.
      best_step: the one whose weights were kept.

    Raises:
      OSError: nothing can be written.
    """
    from amsdff_jax.evaluation.metrics import METRICS  # loads scikit-learn, which a prediction does not need

    folder = user_path(folder)
    environment = next(iter(metrics.values()))
    settings, defaults = without_paths(dataclasses.asdict(config)), flatten(dataclasses.asdict(Config()))
    defaults["train.best_metric"] = METRICS[config.task.kind].default  # as a run has it
    facts = {
        "training": {
            "base_model": _base_model(config.model.encoder),
            "data": _data_name(config),
            "texts": {name: len(dataset) for name, dataset in splits.items()},
            "class_counts": {name: dataset.class_counts.tolist() for name, dataset in splits.items()},
            "seed": config.seed,
            "steps": steps,
            "best_step": best_step,
            "best_metric": config.train.best_metric,
            "settings": settings,
            "changed": {name: value for name, value in flatten(settings).items() if value != defaults[name]},
            **{name: environment[name] for name in ("num_parameters", "device", "versions")},
        },
        "metrics": {name: _numbers(values) for name, values in metrics.items()},
    }
    write_json(folder / FACTS, facts)
    write_model_card(folder)


def record_metrics(folder: str | Path, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    """Puts down the metrics of an evaluation, by split or file, beside those that are there, and writes the card.

    Raises:
      UserError: `config.json` or `calibration.json` is damaged.
      OSError: nothing can be written.
    """
    folder = user_path(folder)
    facts = _read_facts(folder)
    known = facts.get("metrics", {}) | {name: _numbers(values) for name, values in metrics.items()}
    write_json(folder / FACTS, facts | {"metrics": known})
    write_model_card(folder)


def recorded_loss(folder: str | Path) -> LossConfig:
    """The loss that the model of a folder was trained with; cross-entropy where its `card.json` does not tell."""
    recorded = _recorded_settings(folder, "loss")
    return recorded.loss if recorded else LossConfig(ce=1.0, focal=0.0, label_smoothing=0.0)


def recorded_columns(folder: str | Path) -> DataConfig:
    """Where texts and labels are in the files that the model of a folder was trained on, as far as `card.json` tells.

    All other settings are at their default.
    """
    recorded = _recorded_settings(folder, "data")
    if recorded is None or recorded.data.source != "files":
        return DataConfig()
    data = recorded.data
    return DataConfig(**{name: getattr(data, name) for name in COLUMNS})


def recorded_facts(folder: str | Path) -> dict[str, Any]:
    """What `card.json` in a model folder says; nothing where there is none or a damaged one.

    Changes nothing in the folder, which may be somebody else's.
    """
    try:
        return read_json(user_path(folder) / FACTS, "what a model card is made of")
    except UserError:
        return {}


def record_facts(folder: str | Path, facts: Mapping[str, Any]) -> None:
    """Puts down what `recorded_facts` found beside the same model, and writes the card.

    Raises:
      OSError: nothing can be written.
    """
    if facts:
        write_json(user_path(folder) / FACTS, facts)
    write_model_card(folder)


def record_conversion(folder: str | Path, file: str | Path, kind: str) -> None:
    """Puts down of what file, of which kind, a model folder was made, and writes the card.

    Raises:
      OSError: nothing can be written.
    """
    write_json(user_path(folder) / FACTS, {"conversion": {"file": Path(file).name, "kind": kind}})
    write_model_card(folder)


def _card_text(*arguments: Any, **options: Any) -> str:
    from amsdff_jax.evaluation.card_text import card_text  # takes 0.1 s to import, and a prediction needs no card

    return card_text(*arguments, **options)


def _read_facts(folder: Path) -> dict[str, Any]:
    """What `card.json` holds; nothing where there is none, or one of which no card can be made has been set aside."""
    file, config = folder / FACTS, read_model_config(folder)
    facts = read_record(file, "what a model card is made of")
    try:
        _card_text(config, facts, None, has_tokenizer=True)
    except Exception as error:  # it can be wrong in any way
        set_aside(file, UserError(f"{file}: no model card can be made of it ({error!r})"))
        return {}
    return facts


def _recorded_settings(folder: str | Path, section: str) -> Config | None:
    """Settings with the section that the model was trained with; None where its `card.json` does not tell."""
    try:
        return Config.from_dict({section: recorded_facts(folder)["training"]["settings"][section]})
    except (KeyError, TypeError, UserError):
        return None


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics without what describes the machine."""
    return {name: value for name, value in metrics.items() if name not in ("num_parameters", "device", "versions")}


def _base_model(encoder: str) -> str:
    """The hub id of an encoder, "" where it has none."""
    if encoder in PACKAGED:
        return PACKAGED[encoder].hub_id
    return "" if not encoder or user_path(encoder).exists() else encoder


def _data_name(config: Config) -> str:
    data = config.data
    # With its folder: many are called train.csv.
    file = ",".join("/".join(Path(part).parts[-2:]) for part in data.train_file.split(","))
    published = Path(data.dataset).name if _is_local(data.dataset) else data.dataset
    names = {"files": file, "tfds": published, "huggingface": published, "bundled": "movie snippets"}
    return names.get(data.source, data.source)


def _is_local(path: str) -> bool:
    return bool(path) and (user_path(path).is_absolute() or user_path(path).exists())


def without_paths(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings in which a path of this machine, or a URL, which may hold a password, is only a name."""
    cleaned = {}
    for name, value in values.items():
        if isinstance(value, dict):
            cleaned[name] = without_paths(value, f"{prefix}{name}.")
        elif prefix + name in PATHS and any(is_url(part) or _is_local(part) for part in value.split(",")):
            cleaned[name] = ",".join(Path(part).name for part in value.split(","))
        else:
            cleaned[name] = value
    return cleaned
