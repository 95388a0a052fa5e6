"""Settings that do not count everywhere, by dotted name. Whoever adds a setting decides here what it is."""

# Where texts lie, which does not tell one run from another.
DATA_PATHS = ("data.train_file", "data.validation_file", "data.test_file", "data.data_dir")

# What may be a path of this machine, which is nobody else's business.
PATHS = (*DATA_PATHS, "data.dataset", "data.tokenizer", "model.encoder", "model.encoder_config", "train.init_from")

# A run may be resumed with other values: they change no update of the weights but by rounding.
SESSION_FIELDS = (
    "parallel.mode",
    "model.attention",
    "model.rematerialize",
    "train.eval_batch_size",
    "train.evaluate_every",
    "train.patience",
    "train.checkpoint_every",
    "train.log_every",
    "train.trackers",
)

# Where the numbers of a run go changes none of them.
TRACKING_FIELDS = ("train.trackers",)

# Nothing reads these once a run has a checkpoint.
START_FIELDS = ("train.init_from", "train.data_dependent_init", "train.linear_probe", "model.reinit_encoder")

# All others that begin so say where the inputs come from, and the inputs themselves are compared.
INPUT_PREFIXES = ("data.", "task.", "model.encoder")
BATCH_FIELDS = (
    *("data.max_length", "data.long_texts", "data.window_overlap", "data.max_windows"),
    *("data.num_buckets", "data.buckets"),
)

# Newer than the first records of experiments. At its default such a field leaves a run as it was, and its record valid.
NEWER_THAN_RECORDS = (
    *("data.column_names", "data.delimiter", "data.quoting"),
    *("data.long_texts", "data.window_overlap", "data.max_windows"),
    *("data.label_separator", "data.label_columns", "data.label_hierarchy", "data.label_order", "data.rater_columns"),
    *("data.shots", "train.keep_best", "train.linear_probe", "loss.r_drop"),
    *("task.kind", "model.ordinal"),
    *("loss.mse", "loss.huber", "loss.huber_delta"),
    *("train.max_steps", "model.resize_embeddings", "model.encoder_attention_dropout_rate"),
    *("model.lora_rank", "model.lora_alpha", "model.lora_dropout", "model.lora_targets"),
)
