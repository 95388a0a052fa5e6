"""SetFit (Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022): what is usual for few labels.

A sentence encoder learns from pairs of texts whether they have the same class; a logistic regression on its vectors
follows. It is the library `setfit` with its own settings throughout, in PyTorch.
"""

import importlib.util
import tempfile
import time
from typing import Any

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config
from amsdff_jax.data.sources import DataSplits
from amsdff_jax.evaluation.evaluator import Evaluation
from amsdff_jax.evaluation.metrics import compute_metrics
from amsdff_jax.experiments.record import Outcome
from amsdff_jax.interop.hub import find_encoder
from amsdff_jax.training.start import with_task

SMALLEST = np.finfo(np.float32).tiny


def run_setfit(config: Config, data: DataSplits) -> Outcome:
    """Fits SetFit to the training texts; the validation split is not read.

    Args:
      config: its seed, encoder, longest text, and what the loss is made of, for the report.
      data: with a test split, which is reported.

    Raises:
      UserError: `setfit` is not installed; labels that are not one class a text, or pairs of texts.
    """
    if importlib.util.find_spec("setfit") is None:
        raise UserError("setfit: is not installed; pip install setfit, or leave the model out with --models")
    data.train.require_single("SetFit")
    if data.train.text_pairs is not None:
        raise UserError(f"{data.train.name}: has pairs of texts; SetFit takes single ones")
    import datasets
    from setfit import SetFitModel, Trainer, TrainingArguments  # pyright: ignore[reportMissingImports]

    start, test = time.perf_counter(), data.require_test()
    model: Any = SetFitModel.from_pretrained(str(find_encoder(config.model.encoder)))
    model.model_body.max_seq_length = config.data.max_length
    training = datasets.Dataset.from_dict({"text": list(data.train.texts), "label": data.train.labels.tolist()})
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, seed=config.seed, report_to="none", save_strategy="no", show_progress_bar=False
        )
        Trainer(model=model, args=settings, train_dataset=training).train()
    train_seconds = time.perf_counter() - start
    start = time.perf_counter()
    probabilities = np.asarray(model.predict_proba(list(test.texts), as_numpy=True))
    seconds = time.perf_counter() - start
    # A class that training does not have gets no probability.
    logits = np.full((len(test), len(test.class_names)), np.log(SMALLEST), np.float32)
    logits[:, model.model_head.classes_] = np.log(np.maximum(probabilities, SMALLEST))
    task = with_task(config, data.train).task.kind
    evaluation = Evaluation(test.labels, logits, truncated=0, seconds=seconds, task=task)
    parameters = sum(parameter.numel() for parameter in model.model_body.parameters())
    metrics = compute_metrics(evaluation, test.class_names, config.loss)
    return Outcome(evaluation, metrics, parameters + model.model_head.coef_.size, train_seconds)
