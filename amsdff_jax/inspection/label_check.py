"""From a training split to the labels of it that are probably wrong, their ranking in a file, and a cleaned file."""

import dataclasses
import logging
from pathlib import Path

from amsdff_jax.base.files import user_errors
from amsdff_jax.base.validation import require
from amsdff_jax.config import Config
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.encoded_labels import count_classes
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.data.tokenization import make_windows
from amsdff_jax.evaluation.features import embed_once
from amsdff_jax.inspection.label_files import removed_file, source_rows, write_cleaned, write_ranking
from amsdff_jax.inspection.label_issues import LabelIssues, rank_labels, summarize_labels
from amsdff_jax.inspection.label_words import find_words
from amsdff_jax.interop.hub import find_tokenizer
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.registry import make_model
from amsdff_jax.models.vocabulary import fit_vocabulary

logger = logging.getLogger(__name__)


def check_labels(
    config: Config,
    dataset: TextDataset,
    tokenizer: Tokenizer,
    ranking_file: Path,
    apply: Path | None = None,
    fraction: float = 0.0,
) -> LabelIssues:
    """Ranks the texts of a training split by how probably their label is wrong, and writes all of them as a CSV file.

    Args:
      config: its encoder reads the texts; nothing else of a model does.
      dataset: the training split that `config` names.
      ranking_file: is replaced.
      apply: a new CSV file of the rows whose labels are not suspected; what it lacks is listed beside it. None: none.
      fraction: the share of the rows that it lacks, 0 to 1, the most suspicious; 0: those that are suspected.

    Returns:
      What a page shows.

    Raises:
      UserError: too few texts, an encoder that does not fit, or a file that cannot be written.
    """
    require(0 <= fraction < 1, "--fraction", fraction, "0 or more, and below 1")
    require(round(fraction * len(dataset)) < len(dataset), "--fraction", fraction, "a share that leaves a row")
    rows = [] if apply is None else source_rows(config.data, dataset)  # first, for all else takes minutes
    model = load_model(config, tokenizer)
    limits = config.data.max_length, config.data.long_texts
    ranking = rank_labels(dataset, embed_once(model, tokenize_once(dataset, tokenizer, *limits)))
    words = dict(
        zip(
            ranking.suspects.tolist(),
            find_words(ranking, ranking.suspects, model, tokenizer, config),
            strict=True,
        )
    )

    def reasons(texts: list[int]) -> list[str]:
        return [ranking.reason(text, words.get(text, ())) for text in texts]

    order = ranking.order.tolist()
    with user_errors(ranking_file, "written", "name another file with --output"):
        write_ranking(ranking_file, ranking, order, reasons(order))
    if apply is not None:
        removed = ranking.select(fraction).tolist()
        with user_errors(apply, "written", "name another file"):
            # The list first: a cleaned file without one would not say what it lacks.
            write_ranking(removed_file(apply), ranking, removed, reasons(removed))
            try:
                kept = write_cleaned(apply, rows, removed)
            except BaseException:
                removed_file(apply).unlink()
                raise
        logger.info("%s: %d rows, without the %d that %s lists", apply, kept, len(removed), removed_file(apply))
        _warn_of_classes(dataset, removed, apply)
    return summarize_labels(ranking, ranking_file.name, reasons(ranking.suspects.tolist()))


def _warn_of_classes(dataset: TextDataset, removed: list[int], file: Path) -> None:
    """Tells of classes of which a cleaned file lacks most: classifiers that hardly know a rare one find it wrong."""
    lost = count_classes(dataset.labels[removed], len(dataset.class_names))
    for name, number, all_texts in zip(dataset.class_names, lost, dataset.class_counts, strict=True):
        if 2 * number > all_texts:
            message = "%s: lacks %d of the %d texts of %r, most of the class; read %s before you train on it"
            logger.warning(message, file, number, all_texts, name, removed_file(file))


def load_model(config: Config, tokenizer: Tokenizer) -> PretrainedClassifier:
    """A model on the encoder that `config` names, with an embedding for every id of the tokenizer.

    Raises:
      UserError: there is none, or it does not fit.
    """
    plain = {"name": "linear", "num_classes": 2, "lora_rank": 0, "lora_targets": (), "lora_dropout": 0.0}
    model = make_model(dataclasses.replace(config.model, **plain))
    source = str(find_tokenizer(config.data.tokenizer, config.model.encoder))
    fit_vocabulary(model, tokenizer, source, config.seed)
    model.read_in_windows(make_windows(config.data, tokenizer))
    return model
