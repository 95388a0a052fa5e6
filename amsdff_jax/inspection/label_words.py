"""Which words of a text speak for another class than its label."""

import numpy as np

from amsdff_jax.config import Config
from amsdff_jax.data.saved_tokenizer import Tokenizer
from amsdff_jax.data.token_cache import tokenize_once
from amsdff_jax.evaluation.features import encode_once
from amsdff_jax.explanation.reading import read_text
from amsdff_jax.inspection.label_issues import LabelRanking
from amsdff_jax.models.pretrained import PretrainedClassifier

WORDS = 3  # of a text


def find_words(
    ranking: LabelRanking,
    texts: np.ndarray,
    model: PretrainedClassifier,
    tokenizer: Tokenizer,
    config: Config,
) -> list[list[str]]:
    """Of each text the words that speak most for its suggested class and against its label, the first one most.

    The classifiers are linear, and read the mean of a text's tokens: what a word adds to the difference of two logits
    is the sum over its tokens, exactly, beside that of a token that is the mean of all texts.

    Args:
      texts: [M] int, of the ranking; texts that stand alone, for pairs have no words.
      model: whose encoder made the vectors of the ranking.

    Returns:
      M lists of at most `WORDS` different words; an empty one where none speaks for it.
    """
    if ranking.dataset.text_pairs is not None or not len(texts):
        return [[] for _ in texts]
    chosen = ranking.dataset.take(texts, ranking.dataset.name)
    limits = config.data.max_length, config.data.long_texts
    encoded = encode_once(model, tokenize_once(chosen, tokenizer, *limits))
    found, inputs = [], ranking.inputs
    for place, text in enumerate(texts.tolist()):
        first, last = encoded.tokens.offsets[place : place + 2]
        features = np.asarray(encoded.features[first:last], np.float32) / inputs.lengths[text] - inputs.mean
        towards, away = int(ranking.suggested[text]), int(ranking.dataset.labels[text])
        of_tokens = features @ ranking.probe.direction(text, towards, away)
        reading = read_text(chosen.texts[place], tokenizer, *limits)
        of_words: dict[str, float] = {}
        for token, value in zip(reading.tokens, of_tokens.tolist(), strict=True):
            if token.word is not None:
                word = reading.words[token.word]
                name = reading.text[word.start : word.end].lower()
                of_words[name] = of_words.get(name, 0) + value
        names = [name for name, value in of_words.items() if value > 0 and any(map(str.isalnum, name))]
        found.append(sorted(names, key=lambda name: -of_words[name])[:WORDS])
    return found
