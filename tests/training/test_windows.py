"""A sentence that alone decides the class is found wherever in a document it stands."""

import jax
import numpy as np

from amsdff_jax import Classifier, TextDataset, Trainer
from amsdff_jax.models.baselines import CNNClassifier
from amsdff_jax.models.model_folder import read_model_folder

NAMES = ("high", "low")
PLACES = (100, 1_000, 5_000)


def make_documents(number: int, length: int, place: int, seed: int) -> TextDataset:
    """Texts of `length` words, of which four from `place` on tell the class."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(number) % 2)
    words = random.integers(0, 10, (number, length))
    words[:, place : place + 4] = random.integers(20, 30, (number, 4)) + 10 * labels[:, None]
    return TextDataset([" ".join(f"w{word}" for word in row) for row in words], labels, NAMES)


def test_what_decides_is_found_at_any_place(tiny_config, tmp_path):
    parts = [make_documents(24, 42, place, place) for place in (2, 17, 30, 38)]
    train = TextDataset(
        [text for part in parts for text in part.texts], np.concatenate([part.labels for part in parts]), NAMES
    )
    documents = [make_documents(20, place + 30, place, place) for place in PLACES]

    def make(long_texts):
        settings = {"data__max_length": 24, "data__long_texts": long_texts, "data__window_overlap": 1}
        config = tiny_config.replace(train__epochs=12, train__evaluate_every=1000, **settings)
        model = CNNClassifier.from_pretrained(config.model.encoder, 2)
        return Trainer(model, config, train, parts[0], tmp_path / long_texts, devices=jax.devices()[:1])

    trainer = make("truncate")
    for part in documents:  # truncation does not read what decides
        other = TextDataset([text.rsplit(maxsplit=35)[0] for text in part.texts], part.labels, NAMES)
        np.testing.assert_array_equal(*(trainer.run_evaluation(dataset).logits for dataset in (part, other)))
    trainer = make("windows")
    trainer.train()
    classifier = Classifier(read_model_folder(trainer.workdir / "model"), devices=jax.devices()[:1])
    for part in documents:
        evaluation = trainer.run_evaluation(part)
        assert (evaluation.predictions == part.labels).mean() >= 0.95
        assert evaluation.truncated == 0
    np.testing.assert_allclose(classifier.logits(part.texts[:3]), evaluation.logits[:3], atol=1e-4)
