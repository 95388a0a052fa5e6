"""TF-IDF features under logistic regression: what needs no encoder, no network and no accelerator.

Where a text may have several labels, each class is one against the rest.
"""

import time
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import compute_metrics
from amsdff_jax.experiments.record import Outcome
from amsdff_jax.training.start import with_task

INVERSE_REGULARIZATION = (1.0, 3.0, 10.0, 30.0, 100.0)


def run_tfidf(config: Config, data: DataSplits) -> Outcome:
    """Words and pairs of words, weighted, under a logistic regression.

    How strongly that is regularized is chosen by accuracy on the validation split, or, where a text may have several
    labels, by micro F1.

    Args:
      config: its seed, and what the loss is made of, for the report.
      data: with a test split, which is reported.
    """
    if data.train.task == "regression":
        raise UserError(f"{data.train.name}: has a number a text; this baseline takes classes")
    start, test = time.perf_counter(), data.require_test()
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    features = vectorizer.fit_transform(_texts(data.train))
    held_out = vectorizer.transform(_texts(data.validation))
    labels, task = data.train.classes, data.train.task  # which of ordered classes is "single", too
    solver = "lbfgs" if task == "single" else "liblinear"  # which takes a fraction of the time for two classes
    regressions = [
        LogisticRegression(C=strength, max_iter=1000, random_state=config.seed, solver=solver)
        for strength in INVERSE_REGULARIZATION
    ]
    if task == "single":
        models: list[Any] = [regression.fit(features, labels) for regression in regressions]
        best = max(models, key=lambda model: model.score(held_out, data.validation.classes))  # the first of equals
        scores, fitted = best.predict_log_proba, [best]
    else:
        models = [OneVsRestClassifier(regression).fit(features, labels) for regression in regressions]
        best = max(models, key=lambda model: f1_score(data.validation.labels, model.predict(held_out), average="micro"))
        scores = best.decision_function
        fitted = [regression for regression in best.estimators_ if hasattr(regression, "coef_")]
    train_seconds = time.perf_counter() - start
    start = time.perf_counter()
    known = scores(vectorizer.transform(_texts(test)))
    seconds = time.perf_counter() - start
    # A class that training does not have gets no probability.
    logits = np.full((len(test), len(test.class_names)), np.log(np.finfo(np.float32).tiny), np.float32)
    trained = best.classes_ if task == "single" else np.flatnonzero(labels.any(axis=0))
    logits[:, trained] = known if task == "single" else known[:, trained]
    if task == "multi_label":  # and one that all its texts have is certain
        logits[:, labels.all(axis=0)] = -np.log(np.finfo(np.float32).tiny)
    evaluation = Evaluation(
        test.labels, logits, truncated=0, seconds=seconds, task=with_task(config, data.train).task.kind
    )
    metrics = compute_metrics(evaluation, test.class_names, config.loss)
    parameters = sum(regression.coef_.size + regression.intercept_.size for regression in fitted)
    return Outcome(evaluation, metrics, parameters, train_seconds)


def _texts(dataset: TextDataset) -> list[str]:
    if dataset.text_pairs is None:
        return list(dataset.texts)
    return [f"{text} {pair}" for text, pair in zip(dataset.texts, dataset.text_pairs, strict=True)]
