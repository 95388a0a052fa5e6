"""Every setting there is: its name, type, default, meaning and validation.

`Config` is frozen and hashable. The files in `configs/` hold the same fields as an
`ml_collections.ConfigDict`, so that `--config.train.epochs=3` works on the command line;
`Config.from_dict` turns that (or any nested mapping) into a validated `Config`.

An empty string, an empty tuple or 0 stands for "not given": a `None` could not be overridden from
the command line.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import (
    build,
    field_names,
    nearest_field,
    require,
    require_choice,
    without_config_dict,
)
from amsdff_jax.config.class_weights import parse_class_weights
from amsdff_jax.config.columns import split_columns
from amsdff_jax.config.encoders import LARGEST_SIZE, MOST_MODULES
from amsdff_jax.config.encoders import EncoderConfig as EncoderConfig
from amsdff_jax.config.recipes import LAST_LAYER as LAST_LAYER
from amsdff_jax.config.recipes import leave_out_new_dropout as leave_out_new_dropout
from amsdff_jax.config.renamed import current_name, tell, with_current_names

if TYPE_CHECKING:
    from ml_collections import ConfigDict

MODEL_NAMES = ("amsdff", "lstm", "gru", "transformer", "cnn", "attention", "linear", "bert")
TASKS = ("single", "multi_label", "ordinal", "regression")
POOL_NAMES = ("attention", "query", "max")  # in the order in which `pooling_fusion` reads them


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """What is asked of a text."""

    # single: its one class, certain or not; multi_label: any number of classes, or none. Labels that are lists say so
    # by themselves, as do data.label_separator, data.label_columns of zeros and ones, and data.label_hierarchy.
    # ordinal: its one class, of classes in an order, such as stars (data.label_order). regression: a number, of
    # data.label_column.
    kind: str = "single"

    def __post_init__(self) -> None:
        require_choice("task.kind", self.kind, TASKS)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The classifier: which encoder it stands on and the shape of what follows it."""

    name: str = "amsdff"  # or a baseline: lstm, gru, transformer, cnn, attention, linear, bert (transformers' head)
    encoder: str = "distilbert-base-uncased"  # folder, `minilm-l6` or hub id; "" with encoder_config: random weights
    encoder_config: str = ""  # folder or config.json that gives the sizes of a random encoder
    resize_embeddings: bool = False  # add embeddings for the ids of the tokenizer that the encoder has none for
    reinit_encoder: bool = False  # throw the pretrained weights away, as the published code did (ablation only)
    num_classes: int = 0  # 0: as many as the data has
    ordinal: bool = False  # one score, and thresholds between ordered classes; task.kind=ordinal sets it
    kernel_sizes: tuple[int, ...] = (1, 3, 5)  # one scale each, in tokens, odd
    num_experts: int = 3  # of stage 4, mixed by the gate
    multi_scale: bool = True  # False: stage 3, `multi_scale_attention`, is left out (ablation)
    fusion: bool = True  # False: stage 4, `dynamic_fusion`, is left out (ablation)
    pools: tuple[str, ...] = POOL_NAMES  # which of the pools of stage 5 there are (ablation)
    num_attention_heads: int = 8  # of `scale_fusion` and `cls_attention`
    mask_padding: bool = True  # True: padding is invisible (masked); False: as in PyTorch (reference)
    dropout_rate: float = 0.1  # `feature_enhancer`; of a baseline, before its last layer
    attention_dropout_rate: float = 0.1  # attention weights of `scale_fusion` and `cls_attention`
    encoder_attention_dropout_rate: float = -1.0  # attention weights of the encoder; -1: what its config.json says
    expert_dropout_rate: float = 0.1  # within the experts
    pooling_dropout_rate: float = 0.1  # `pooling_fusion`
    classifier_dropout_rates: tuple[float, ...] = (0.3, 0.2)  # behind its first and its second layer
    compute_dtype: str = "auto"  # float32 or bfloat16, of the products; auto: bfloat16 where the device multiplies it
    lora_rank: int = 0  # of adapters beside the encoder's weights, which are frozen then (LoRA); 0: no adapters
    lora_alpha: float = 8.0  # what an adapter says is scaled by lora_alpha / lora_rank
    lora_dropout: float = 0.0  # of what the adapters read
    lora_targets: tuple[str, ...] = ()  # projections by their PyTorch names, such as q_lin; (): of queries and values
    rematerialize: bool = False  # compute the encoder's blocks again in the backward pass: less memory, more time
    attention: str = "auto"  # or xla; auto: cuDNN's fused attention on a GPU where it applies, else XLA's

    def __post_init__(self) -> None:
        require_choice("model.name", self.name, MODEL_NAMES)
        widths = self.kernel_sizes
        odd = 0 < len(widths) <= MOST_MODULES and all(0 < size <= MOST_MODULES and size % 2 == 1 for size in widths)
        expected = f"one or more odd positive numbers below {MOST_MODULES}, such as (1, 3, 5)"
        require(odd, "model.kernel_sizes", widths, expected)
        ordered = bool(self.pools) and list(self.pools) == [name for name in POOL_NAMES if name in self.pools]
        require(ordered, "model.pools", self.pools, f"one or more of {', '.join(POOL_NAMES)}, in this order")
        expected = f"at least 1, at most {MOST_MODULES}"
        require(0 < self.num_experts <= MOST_MODULES, "model.num_experts", self.num_experts, expected)
        require(self.num_attention_heads > 0, "model.num_attention_heads", self.num_attention_heads, "at least 1")
        expected = "at least 2, 1 for a model of numbers, or 0 to take it from the data"
        require(0 <= self.num_classes <= LARGEST_SIZE, "model.num_classes", self.num_classes, expected)
        require(self.num_classes != 1 or not self.ordinal, "model.num_classes", 1, "at least 2 with model.ordinal")
        dropouts = ("dropout_rate", "attention_dropout_rate", "expert_dropout_rate", "pooling_dropout_rate")
        for name in (*dropouts, "lora_dropout"):
            require(0 <= getattr(self, name) < 1, f"model.{name}", getattr(self, name), "from 0 to below 1")
        rate = self.encoder_attention_dropout_rate
        expected = "from 0 to below 1, or -1 for that of the encoder's config.json"
        require(0 <= rate < 1 or rate == -1, "model.encoder_attention_dropout_rate", rate, expected)
        rates = self.classifier_dropout_rates
        two_rates = len(rates) == 2 and all(0 <= rate < 1 for rate in rates)
        require(two_rates, "model.classifier_dropout_rates", rates, "two rates from 0 to below 1")
        rank, expected = self.lora_rank, f"0, for no adapters, to {MOST_MODULES}"
        require(0 <= rank <= MOST_MODULES, "model.lora_rank", rank, expected)
        require(0 < self.lora_alpha < math.inf, "model.lora_alpha", self.lora_alpha, "a number above 0")
        require(
            not (rank and self.resize_embeddings),
            "model.lora_rank",
            rank,
            "0 with model.resize_embeddings=true, because the embeddings that it adds could not learn",
        )
        require_choice("model.compute_dtype", self.compute_dtype, ("auto", "float32", "bfloat16"))
        require_choice("model.attention", self.attention, ("auto", "xla"))

    def check_hidden_size(self, hidden_size: int) -> None:
        """Raises `UserError` unless `hidden_size` can be split as the model of this name needs it."""
        parts_by_field = {}
        if self.name == "amsdff":
            parts_by_field["model.kernel_sizes"] = len(self.kernel_sizes)
        if self.name in ("amsdff", "transformer"):
            parts_by_field["model.num_attention_heads"] = self.num_attention_heads
        for name, parts in parts_by_field.items():
            what = "scales" if "kernel" in name else "heads"
            fitting = [number for number in range(1, 33) if hidden_size % number == 0]
            expected = f"a number of {what} that divides the encoder's hidden size {hidden_size}, one of {fitting}"
            require(hidden_size % parts == 0, name, getattr(self, name.split(".")[1]), expected)


QUOTING = ("auto", "double", "backslash", "none")
LABEL_TYPES = ("auto", "name", "integer")
LONG_TEXTS = ("truncate", "head_tail", "windows")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the texts come from and how they become batches."""

    source: str = "files"  # files, tfds, huggingface, bundled (movie-review snippets) or newsgroups20

    # files: CSV, TSV, JSON, JSONL or Parquet, optionally .gz or .zst; or several: a folder of them, a pattern such as
    # 'part-*.parquet', or a.csv,b.csv; each may be a URL, such as s3://bucket/train.csv
    train_file: str = ""
    validation_file: str = ""  # "": taken from the training file, stratified
    test_file: str = ""  # "": no test split
    text_column: str = "text"  # or several, such as title,body: joined with a space, without those that are empty
    text_pair_column: str = ""  # a second text, for tasks on pairs; or several, joined likewise
    label_column: str = "label"  # the class, a list of classes, or the number
    label_separator: str = ""  # between the labels of a text that has several, as "|" in a|b; "": a label is one name
    label_columns: str = ""  # such as a,b,c: a column a label, 1 where a text has it, else 0; or its probability
    rater_columns: str = ""  # such as ann1,ann2: a column a rater, a class or nothing; the label is the share of votes
    label_hierarchy: str = ""  # between the parts of names: with "." a text of rec.sport has rec too; "": no parts
    column_names: tuple[str, ...] = ()  # of CSV and TSV files without a header, in order; (): the header has them
    delimiter: str = ""  # of CSV and TSV files, one character or \t; "": as the ending and the header say
    quoting: str = "auto"  # quotes in quoted fields of CSV and TSV: double or backslash; none: quotes are letters
    label_order: str = ""  # classes in order, the lowest first, as bad,fair,good; "": numbers by size, names as text
    label_type: str = "auto"  # name: labels as they are written; integer: whole numbers; auto: numbers if most are

    # tfds: a dataset's name, such as ag_news_subset or glue/sst2. huggingface: a hub id, perhaps with configuration and
    # revision as in nyu-mll/glue:sst2@main, a folder that `save_to_disk` made, or Parquet files
    dataset: str = ""
    data_dir: str = ""  # TFDS data directory, or where `datasets` keeps what it downloads; "": their own default
    text_features: tuple[str, ...] = ("text",)  # several are joined as columns are
    text_pair_feature: str = ""  # a second text, for tasks on pairs
    label_feature: str = "label"  # of a published dataset, as label_column of a file
    train_split: str = "train"  # each may be slices, as in train[:10%] or train[:1000]+train[-1000:]
    validation_split: str = ""  # "": taken from the training split, stratified
    test_split: str = "test"  # "": no test split

    validation_fraction: float = 0.1  # of the training split, where no validation split is named
    shots: int = 0  # texts of each class that are trained on, drawn by `seed`, for few-shot learning; 0: all
    tokenizer: str = ""  # folder, hub id or minilm-l6; "": the encoder's own
    max_length: int = 256  # tokens, special ones included
    # What is read of longer ones: the first tokens (truncate), the first and the last (head_tail), or all (windows), so
    # many at a time
    long_texts: str = "truncate"
    window_overlap: int = 32  # windows: tokens that two neighbours share
    max_windows: int = 4  # windows: of a text in a step of training, side by side, others in every epoch
    num_buckets: int = 4  # at most so many lengths are compiled in masked mode; reference mode has one
    buckets: tuple[int, ...] = ()  # the lengths themselves, ending in max_length; (): chosen from the data

    def __post_init__(self) -> None:
        require_choice("data.source", self.source, ("files", "tfds", "huggingface", "bundled", "newsgroups20"))
        columns = [split_columns(getattr(self, name), f"data.{name}") for name in ("text_column", "text_pair_column")]
        require(bool(columns[0]), "data.text_column", self.text_column, "the name of a column")
        labels = split_columns(self.label_columns, "data.label_columns")
        require(len(set(labels)) == len(labels), "data.label_columns", self.label_columns, "different columns")
        order = [name.strip() for name in split_columns(self.label_order, "data.label_order")]
        fits = len(set(order)) == len(order) != 1 and all(order)
        require(fits, "data.label_order", self.label_order, "two or more different names of classes, such as bad,good")
        both = not (self.label_columns and self.label_separator)
        expected = "nothing beside data.label_columns, which hold a label each"
        require(both, "data.label_separator", self.label_separator, expected)
        raters = split_columns(self.rater_columns, "data.rater_columns")
        fits, expected = len(set(raters)) == len(raters) != 1, "two or more different columns, such as ann1,ann2"
        require(fits, "data.rater_columns", self.rater_columns, expected)
        for name in ("label_columns", "label_separator", "label_hierarchy"):
            value, expected = getattr(self, name), "nothing beside data.rater_columns, which hold a vote each"
            require(not (raters and value), f"data.{name}", value, expected)
        require_choice("data.quoting", self.quoting, QUOTING)
        one_character = len(self.delimiter) == 1 and self.delimiter not in '"\\\r\n'
        fits, expected = one_character or self.delimiter in ("", "\\t"), "one character, such as ';', or \\t for a tab"
        require(fits, "data.delimiter", self.delimiter, expected)
        require_choice("data.label_type", self.label_type, LABEL_TYPES)
        require(
            0 < self.validation_fraction < 1, "data.validation_fraction", self.validation_fraction, "between 0 and 1"
        )
        require(self.shots >= 0, "data.shots", self.shots, "0, for all texts, or more")
        require(self.max_length >= 3, "data.max_length", self.max_length, "at least 3 tokens")
        require_choice("data.long_texts", self.long_texts, LONG_TEXTS)
        require(self.window_overlap >= 0, "data.window_overlap", self.window_overlap, "0 or more")
        for name in ("max_windows", "num_buckets"):
            require(getattr(self, name) >= 1, f"data.{name}", getattr(self, name), "at least 1")
        rising = list(self.buckets) == sorted(set(self.buckets)) and all(length > 0 for length in self.buckets)
        complete = not self.buckets or self.buckets[-1] == self.max_length
        expected = f"rising lengths that end in data.max_length={self.max_length}"
        require(rising and complete, "data.buckets", self.buckets, expected)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the loss, and their parameters."""

    ce: float = 0.4  # cross-entropy
    focal: float = 0.4  # focal loss, in which what is right already counts less
    label_smoothing: float = 0.2  # cross-entropy against smoothed labels
    contrastive: float = 0.0  # supervised contrastive loss on the pooled features, over the texts of a batch or piece
    r_drop: float = 0.0  # how far two passes of a text with different dropout are apart
    focal_alpha: float = 1.0  # a factor of the focal loss
    focal_gamma: float = 2.0  # the greater, the less counts what is right already
    smoothing: float = 0.1  # probability spread evenly over all classes
    temperature: float = 0.07  # of the contrastive loss
    # With task.kind=regression these are the parts instead, of numbers whose unit is the training labels' standard
    # deviation: squared error, and Huber's loss, which beyond an error of huber_delta grows as the error does
    mse: float = 1.0
    huber: float = 0.0
    huber_delta: float = 1.0
    # "": all equal; "balanced", "(1.0, 2.0)" in the order of the classes, "{neg: 1, pos: 2}". A text weighs as much as
    # its class; with task.kind=multi_label the loss of a class weighs so much where a text has it, else 1.
    class_weights: Any = ""

    def __post_init__(self) -> None:
        for name in LOSS_PARTS:
            require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "0 or more")
        learned = self.ce + self.focal + self.label_smoothing  # no other part teaches the last layer the labels
        require(learned > 0, "loss.ce", self.ce, "above 0, or loss.focal or loss.label_smoothing above 0")
        for name in REGRESSION_LOSS_PARTS:
            require(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "0 or more")
        require(self.mse + self.huber > 0, "loss.mse", self.mse, "above 0, or loss.huber above 0")
        require(self.huber_delta > 0, "loss.huber_delta", self.huber_delta, "above 0")
        require(0 <= self.smoothing < 1, "loss.smoothing", self.smoothing, "from 0 to below 1")
        require(self.temperature > 0, "loss.temperature", self.temperature, "above 0")
        object.__setattr__(self, "class_weights", parse_class_weights(self.class_weights))


LOSS_PARTS = ("ce", "focal", "label_smoothing", "contrastive", "r_drop")
REGRESSION_LOSS_PARTS = ("mse", "huber")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The optimization: how long, how fast, what moves and what is kept."""

    init_from: str = ""  # .pt or safetensors of PyTorch to begin with, optimizer's state included; "": a new head
    data_dependent_init: bool = True  # begin with new layers fitted to the training texts
    linear_probe: bool = False  # begin with the last layer solved for the training texts
    epochs: int = 3  # passes over the training texts
    max_steps: int = 0  # updates of the whole run, where `epochs` would make more; 0: as many as `epochs` make
    batch_size: int = 32  # texts an update, over all devices
    eval_batch_size: int = 64  # texts at a time in evaluations
    accumulation_steps: int = 1  # a batch goes through the model in so many pieces, to save memory
    head_learning_rate: float = 5e-4  # peak, of the new layers: all that stands on the encoder
    encoder_learning_rate: float = 5e-5  # peak, of the encoder; 0 freezes it
    learning_rate_table: tuple[tuple[str, float], ...] = ()  # before both: (regex of a PyTorch name, peak)
    weight_decay: float = 0.01  # of matrices, as AdamW does it
    decay_all: bool = False  # decay biases, norms and embeddings too, as PyTorch's AdamW does by default
    warmup_ratio: float = 0.1  # share of all steps in which the rate rises linearly; then cosine to 0
    # Share of all steps in which the encoder waits, while what is new settles; then its warm-up begins.
    encoder_delay: float = 0.0
    beta1: float = 0.9  # of AdamW, for the mean of gradients
    beta2: float = 0.999  # of AdamW, for the mean of their squares
    epsilon: float = 1e-8  # of AdamW, beside the root of these
    gradient_clip: float = 1.0  # largest global norm; 0: no clipping
    # On the validation split; decides the best checkpoint and early stopping. auto: macro_f1, or with
    # task.kind=regression rmse, with task.kind=ordinal quadratic_weighted_kappa
    best_metric: str = "auto"
    keep_best: bool = True  # False: the last weights are kept, whichever evaluation was best
    patience: int = 0  # evaluations without improvement before stopping; 0: never stop early
    evaluate_every: int = 0  # steps between evaluations; 0: once an epoch
    checkpoint_every: int = 200  # steps between checkpoints, beside the one at each evaluation
    log_every: int = 20  # steps between records in metrics.jsonl and in trackers
    trackers: str = "tensorboard"  # shown there too: tensorboard, mlflow, wandb, trackio, with commas between; "": none

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_batch_size", "accumulation_steps", "checkpoint_every", "log_every"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "at least 1")
        rates = ("head_learning_rate", "encoder_learning_rate", "weight_decay", "gradient_clip")
        for name in (*rates, "max_steps", "patience", "evaluate_every"):
            value = getattr(self, name)
            require(value >= 0 and math.isfinite(value), f"train.{name}", value, "0 or more")
        expected = "0 with train.keep_best=false, which waits for no improvement"
        require(self.keep_best or not self.patience, "train.patience", self.patience, expected)
        pieces, expected = self.accumulation_steps, f"a divisor of train.batch_size={self.batch_size}"
        require(self.batch_size % pieces == 0, "train.accumulation_steps", pieces, expected)
        for name in ("warmup_ratio", "encoder_delay", "beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"train.{name}", getattr(self, name), "from 0 to below 1")
        for pattern, rate in self.learning_rate_table:
            require(rate >= 0 and math.isfinite(rate), f"train.learning_rate_table: {pattern!r}", rate, "0 or more")
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(
                    f"train.learning_rate_table: {pattern!r} is not a regular expression ({error})"
                ) from None
        for name in self.tracker_names:
            require_choice("train.trackers", name, TRACKERS)

    @property
    def tracker_names(self) -> tuple[str, ...]:
        """The names in `trackers`."""
        return tuple(dict.fromkeys(name.strip() for name in self.trackers.split(",") if name.strip()))


TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
PARALLEL_MODES = ("sharded", "fsdp", "pmap")


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How the devices share the work. It changes no result but by rounding."""

    # One jitted step over whole batches; or fsdp: the same, with weights and optimizer split over the devices; or pmap:
    # a step per device with explicit sums
    mode: str = "sharded"

    def __post_init__(self) -> None:
        require_choice("parallel.mode", self.mode, PARALLEL_MODES)


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    seed: int = 0  # of initialization, dropout and data order
    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)

    def __post_init__(self) -> None:
        require(0 <= self.seed < 1 << 32, "seed", self.seed, "from 0 to 4294967295")
        classes, number = self.model.num_classes, self.task.kind == "regression"
        require(classes != 1 or number, "model.num_classes", classes, "at least 2, or 0 to take it from the data")
        require(classes in (0, 1) or not number, "model.num_classes", classes, "0 or 1 with task.kind=regression")
        if self.task.kind == "ordinal":
            object.__setattr__(self, "model", dataclasses.replace(self.model, ordinal=True))
        require(not self.model.ordinal or self.task.kind == "ordinal", "task.kind", self.task.kind,
                "ordinal with model.ordinal, which is for ordered classes")  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """Builds a validated `Config` from a nested mapping such as a `ConfigDict`.

        Raises:
          UserError: a name that does not exist, a value of the wrong type or out of range.
        """
        plain = without_config_dict(values)
        if plain is not values:  # of `default_config`, with a value for every field
            plain = with_current_names(plain, dataclasses.asdict(cls()))
        elif isinstance(plain, Mapping):
            plain = with_current_names(plain)
        return build(cls, plain, "")

    def replace(self, **fields: Any) -> "Config":
        """A copy with fields changed, each named with two underscores for the dot: `train__epochs=3`.

        A section takes another of its kind, or a mapping of those of its fields that change: `train={"epochs": 3}`.

        Raises:
          UserError: a name that does not exist, a value of the wrong type or out of range.
        """
        values = dataclasses.asdict(self)
        names = [*field_names(values), *(name for name in values if isinstance(values[name], dict))]
        for name, value in fields.items():
            given = name.replace("__", ".")
            name = current_name(given)
            if name != given:
                tell(given, name)
            if name not in names:
                raise UserError(f"{name}: no such field{nearest_field(name, names)}")
            *sections, last = name.split(".")
            section = values[sections[0]] if sections else values
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                value = dataclasses.asdict(value)
            if isinstance(value, Mapping) and not sections:
                value = section[last] | with_current_names({last: value})[last]
            section[last] = value
        return Config.from_dict(values)


def default_config() -> "ConfigDict":
    """All defaults as a `ConfigDict`, for the files in `configs/` to change."""
    from ml_collections import ConfigDict  # which the library does not need

    return ConfigDict(dataclasses.asdict(Config()))
