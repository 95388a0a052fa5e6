"""TF-IDF features under logistic regression: what needs no encoder, no network and no accelerator."""

import time

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from amsdff_jax.config import Config
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import compute_metrics
from amsdff_jax.experiments.record import Outcome

INVERSE_REGULARIZATION = (1.0, 3.0, 10.0, 30.0, 100.0)


def run_tfidf(config: Config, data: DataSplits) -> Outcome:
    """Words and pairs of words, weighted, under a logistic regression.

    How strongly that is regularized is chosen by accuracy on the validation split.

    Args:
      config: its seed, and what the loss is made of, for the report.
      data: with a test split, which is reported.
    """
    start, test = time.perf_counter(), data.require_test()
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    features = vectorizer.fit_transform(_texts(data.train))
    held_out = vectorizer.transform(_texts(data.validation))
    models = [
        LogisticRegression(C=strength, max_iter=1000, random_state=config.seed).fit(features, data.train.labels)
        for strength in INVERSE_REGULARIZATION
    ]
    best = max(models, key=lambda model: model.score(held_out, data.validation.labels))  # the first of equals
    train_seconds = time.perf_counter() - start
    start = time.perf_counter()
    known = best.predict_log_proba(vectorizer.transform(_texts(test)))
    seconds = time.perf_counter() - start
    # A class that training does not have gets no probability.
    logits = np.full((len(test), len(test.class_names)), np.log(np.finfo(np.float32).tiny), np.float32)
    logits[:, best.classes_] = known
    evaluation = Evaluation(test.labels, logits, truncated=0, seconds=seconds)
    metrics = compute_metrics(evaluation, test.class_names, config.loss)
    return Outcome(evaluation, metrics, best.coef_.size + best.intercept_.size, train_seconds)


def _texts(dataset: TextDataset) -> list[str]:
    if dataset.text_pairs is None:
        return list(dataset.texts)
    return [f"{text} {pair}" for text, pair in zip(dataset.texts, dataset.text_pairs, strict=True)]
