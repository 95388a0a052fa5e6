"""The words of a model card: facts in, Markdown with the Hub's metadata out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from amsdff_jax.base.escaping import escape_markdown, markdown_code
from amsdff_jax.models.model_folder import FolderConfig

COLUMNS = {"texts": "examples", "accuracy": "accuracy", "macro F1": "macro_f1", "weighted F1": "weighted_f1",
           "log loss": "log_loss", "Brier": "brier", "ECE": "ece"}  # fmt: skip

FEW_TEXTS = 30  # of a class in training, below which the card warns
MOST_NAMED = 10  # classes in a list

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
    sections = [
        _introduction(config, facts),
        _data(config, training),
        _metrics(metrics),
        _per_class(metrics, training),
        _calibration(calibration, metrics),
        _limits(config, metrics, training, calibration),
        _training(training),
        _loading(config, has_tokenizer),
    ]
    return f"---\n{_metadata(config, metrics, training)}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _ordered(metrics: Facts) -> dict[str, Facts]:
    """By split or file, as Markdown: test first, then validation, then the rest: the first is what the card goes by."""
    first = [name for name in ("test", "validation") if name in metrics]
    return {escape_markdown(name): metrics[name] for name in [*first, *(name for name in metrics if name not in first)]}


def _metadata(config: FolderConfig, metrics: Mapping[str, Facts], training: Facts) -> str:
    data = training.get("data", "")
    results = [
        EvalResult(
            task_type="text-classification", task_name="Text classification", dataset_type=data.replace(" ", "-"),
            dataset_name=data, dataset_split=split, metric_type=kind, metric_name=title, metric_value=round(value, 6),
        )
        for split, values in metrics.items()
        if data and split in ("test", "validation")
        for kind, title, value in (("accuracy", "accuracy", values["accuracy"]), ("f1", "macro F1", values["macro_f1"]))
    ]  # fmt: skip
    return ModelCardData(
        library_name="amsdff-jax",
        pipeline_tag="text-classification",
        tags=["text-classification", "jax", "pytorch", config.model.name],
        base_model=training.get("base_model") or None,
        metrics=["accuracy", "f1"] if metrics else None,
        model_name=_title(config) if results else None,
        eval_results=results or None,
    ).to_yaml()


def _title(config: FolderConfig) -> str:
    return f"{config.model.name}, {len(config.class_names)} classes"


def _introduction(config: FolderConfig, facts: Facts) -> str:
    text = f"# {_title(config)}\n\nTells the class of a text: {_some(config.class_names)}."
    conversion = facts.get("conversion")
    if not conversion:
        return text
    origin = f"{markdown_code(conversion['file'])} ({escape_markdown(conversion['kind'])})"
    return f"{text}\n\nConverted from {origin}. How these weights were trained is not known here."


def _data(config: FolderConfig, training: Facts) -> str:
    if not training:
        return ""
    counts = training["class_counts"]
    rows = [
        [escape_markdown(name), f"{number:,}", *(_range(counts[name], config.class_names))]
        for name, number in training["texts"].items()
    ]
    table = _table(["split", "texts", "smallest class", "largest class"], rows)
    return f"## Data\n\n{escape_markdown(training['data'])}.\n\n{table}"


def _range(counts: Sequence[int], names: Sequence[str]) -> list[str]:
    order = sorted(range(len(counts)), key=counts.__getitem__)
    return [f"{escape_markdown(names[index])} ({counts[index]:,})" for index in (order[0], order[-1])]


def _metrics(metrics: Mapping[str, Facts]) -> str:
    if not metrics:
        return ""
    rows = [[split, *(_number(values.get(name)) for name in COLUMNS.values())] for split, values in metrics.items()]
    return f"## Metrics\n\n{_table(['split', *COLUMNS], rows)}"


def _per_class(metrics: Mapping[str, Facts], training: Facts) -> str:
    if not metrics:
        return ""
    split, values = next(iter(metrics.items()))
    seen = training.get("class_counts", {}).get("train")
    header = ["class", "precision", "recall", "F1", "texts", *(["texts in training"] if seen else [])]
    rows = [
        [escape_markdown(row["class"]), *(_number(row[name]) for name in ("precision", "recall", "f1", "support")),
         *([_number(seen[index])] if seen else [])]
        for index, row in enumerate(values["per_class"])
    ]  # fmt: skip
    return f"## Per class ({split})\n\n{_table(header, rows)}"


def _calibration(calibration: Facts | None, metrics: Mapping[str, Facts]) -> str:
    if calibration is None:
        return ""
    rows = [
        [escape_markdown(name), escape_markdown(value) if isinstance(value, str) else _number(value)]
        for name, value in _flat(calibration)
    ]
    return f"## Calibration\n\nThe content of `calibration.json`:\n\n{_table(['', ''], rows)}"


def _flat(values: Facts, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is None or isinstance(value, (str, int, float)):
            yield f"{prefix}{name}", value


def _limits(config: FolderConfig, metrics: Mapping[str, Facts], training: Facts, calibration: Facts | None) -> str:
    split, values = next(iter(metrics.items()), ("", {}))
    limits = ["Every text gets one of the classes above, also a text that belongs to none of them."]
    cut = f"Only the first {config.max_length} tokens of a text are read"
    if "truncated" in values:
        cut += f"; {values['truncated']:,} of {values['examples']:,} texts ({split}) were longer"
    limits.append(f"{cut}.")
    if not config.model.mask_padding:
        limits.append(f"Padding is part of the input (reference semantics): every text must be padded to "
                      f"{config.max_length} tokens.")  # fmt: skip
    if metrics:
        rows = values["per_class"]
        weakest = sorted((row for row in rows if row["support"]), key=lambda row: row["f1"])[:3]
        if len(rows) > 3:
            named = "; ".join(
                f"{escape_markdown(row['class'])} (F1 {row['f1']:.3f}, {row['support']:,} texts)" for row in weakest
            )
            limits.append(f"Weakest classes ({split}): {named}.")
        unseen = [row["class"] for row in rows if not row["support"]]
        if unseen:
            limits.append(f"Not measured, for lack of texts ({split}): {_some(unseen)}.")
    if training:
        few = [name for name, count in zip(config.class_names, training["class_counts"]["train"], strict=True)
               if count < FEW_TEXTS]  # fmt: skip
        if few:
            limits.append(f"Fewer than {FEW_TEXTS} texts to learn from: {_some(few)}.")
        limits.append(f"Measured on texts from the same source as those it was trained on, in a single run (seed "
                      f"{training['seed']}).")  # fmt: skip
    if calibration is None:
        error = f" (expected calibration error {values['ece']:.3f}, {split})" if metrics else ""
        limits.append(f"Probabilities have not been calibrated{error}.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _training(training: Facts) -> str:
    if not training:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in training["versions"].items())
    rows = [
        ["parameters", f"{training['num_parameters']:,}"],
        ["encoder", escape_markdown(training["base_model"] or training["settings"]["model"]["encoder"] or "random")],
        ["seed", str(training["seed"])],
        ["steps", f"{training['steps']:,}"],
        ["kept", f"step {training['best_step']:,}, best validation {training['best_metric']}"],
        ["device", escape_markdown(training["device"])],
        ["versions", escape_markdown(versions)],
        *([f"`{name}`", markdown_code(str(value))] for name, value in training["changed"].items()),
    ]
    return (
        f"## Training\n\n{_table(['', ''], rows)}\n\nSettings with a dot are those that are not amsdff-jax "
        f"{training['versions'].get('amsdff-jax', '')}'s defaults; `card.json` holds them all."
    )


def _loading(config: FolderConfig, has_tokenizer: bool) -> str:
    if has_tokenizer:
        padding = "padding=True" if config.model.mask_padding else 'padding="max_length"'
        options = f"{padding}, truncation=True, max_length={config.max_length}"
        jax_lines = f"""import amsdff_jax

classifier = amsdff_jax.Classifier.from_pretrained(".")  # this folder
predictions = classifier.predict(["A text."])  # label, probability, ...
logits = classifier.logits(["A text."])  # [1,{len(config.class_names)}]"""
        torch_lines = f"""import amsdff_jax

model = amsdff_jax.TorchClassifier.from_pretrained(".")  # this folder
tokens = amsdff_jax.load_tokenizer(".")(["A text."], {options}, return_tensors="pt")
logits = model(tokens["input_ids"], tokens["attention_mask"]).logits"""
    else:
        jax_lines = """import amsdff_jax

model = amsdff_jax.load_model(".")  # this folder, which holds no tokenizer
# logits = model(input_ids, attention_mask).logits"""
        torch_lines = """import amsdff_jax

model = amsdff_jax.TorchClassifier.from_pretrained(".")  # this folder
# logits = model(input_ids, attention_mask).logits"""
    return f"""## Loading

In JAX (`pip install amsdff-jax`):

```python
{jax_lines}
```

In PyTorch (`pip install 'amsdff-jax[torch]'`; `model.safetensors` is a state dict in PyTorch's names):

```python
{torch_lines}
```

To run without amsdff-jax, export it: `amsdff export --model=FOLDER --output=exported` with
`--format=safetensors` (for PyTorch), `onnx` or `stablehlo`."""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1) if len(header) > 2 else ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(escape_markdown, names[:MOST_NAMED])) + more
