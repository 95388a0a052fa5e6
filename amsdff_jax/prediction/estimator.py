"""The classifier as an estimator of scikit-learn, which whatever is built on scikit-learn can use."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, shown
from amsdff_jax.config import Config
from amsdff_jax.data.chunks import Pause
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.labels import is_rising
from amsdff_jax.data.rows import is_list, is_missing, listed, plain
from amsdff_jax.data.sources import complete_splits
from amsdff_jax.data.texts import Text, checked, numbered
from amsdff_jax.parallel.data_parallel import Device
from amsdff_jax.prediction.classifier import Classifier
from amsdff_jax.training.train_run import make_trainer

SETTINGS = {  # parameters of the estimator that are settings, by their names in `Config`
    "encoder": "model.encoder",
    "model": "model.name",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "head_learning_rate": "train.head_learning_rate",
    "encoder_learning_rate": "train.encoder_learning_rate",
    "max_length": "data.max_length",
    "validation_fraction": "data.validation_fraction",
}


class AmsdffClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tunes a classifier of texts, with scikit-learn's `fit`, `predict` and `predict_proba`.

    It can be cloned, pickled, cross-validated, searched over and put at the end of a `Pipeline` whose steps give texts.
    X is a list, an array or a column of N strings, or of N tuples of two for pairs of texts. A part of it,
    `validation_fraction`, stratified, is not learned from, but chooses the best of the evaluated weights.

    Parameters that are None are as `config` says, which by default is the default of the setting.

    Args:
      encoder: a folder, `minilm-l6` or a hub id (`model.encoder`).
      model: "amsdff", or a baseline (`model.name`).
      epochs: passes over the training part (`train.epochs`).
      batch_size: texts an update (`train.batch_size`).
      head_learning_rate: peak, of the new layers (`train.head_learning_rate`).
      encoder_learning_rate: peak, of the encoder; 0 freezes it (`train.encoder_learning_rate`).
      max_length: tokens that texts are truncated to (`data.max_length`).
      validation_fraction: share of the texts, between 0 and 1 (`data.validation_fraction`).
      config: every other setting: a `Config`, or nested names and values such as {"loss": {"ce": 1.0}}. With
        {"task": {"kind": "ordinal"}} the classes are numbers in their order.
      random_state: a seed, or NumPy's `RandomState`; None: `config.seed`, so that two fits are the same.
      devices: places in `jax.devices()` of those that train and predict, such as [0]; None: all there are. (The devices
        themselves can neither be cloned nor pickled.)

    Attributes:
      classes_: [C] the classes, sorted, as they are in y.
      classifier_: the fitted `Classifier`, which explains and saves, too.
    """

    def __init__(
        self,
        encoder: str | None = None,
        *,
        model: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        head_learning_rate: float | None = None,
        encoder_learning_rate: float | None = None,
        max_length: int | None = None,
        validation_fraction: float | None = None,
        config: Config | Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        devices: Sequence[int] | None = None,
    ):
        self.encoder = encoder
        self.model = model
        self.epochs = epochs
        self.batch_size = batch_size
        self.head_learning_rate = head_learning_rate
        self.encoder_learning_rate = encoder_learning_rate
        self.max_length = max_length
        self.validation_fraction = validation_fraction
        self.config = config
        self.random_state = random_state
        self.devices = devices

    def fit(self, X: Iterable[Text], y: Iterable[Any]) -> Self:
        """Trains from the pretrained encoder on.

        Args:
          X: N texts.
          y: N classes: strings, whole numbers or truth values.

        Returns:
          The estimator itself.

        Raises:
          UserError: something that is no text, fewer than two classes, too few texts to validate on, or a setting that
            is wrong. It is a `ValueError`.
        """
        if y is None:
            raise UserError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        if isinstance(y, list) and any(map(is_list, y)):
            raise UserError("y: expected one class a text, got lists; `Trainer` learns several labels a text")
        config, devices, texts = self._make_config(), self._find_devices(), _as_texts(X)
        _check_labels(y)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        classes, indices = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise UserError(f"y: expected at least two classes, got one class or none: {classes.tolist()}")
        names = tuple(map(str, classes.tolist()))
        if config.task.kind == "ordinal" and not is_rising(names):
            raise UserError(f"y: with task.kind=ordinal expected numbers, whose order is known, got {first_of(names)}")
        paired = bool(texts) and isinstance(texts[0], tuple)
        dataset = TextDataset(
            [text[0] for text in texts] if paired else texts,
            indices,
            names,
            [text[1] for text in texts] if paired else None,
            name="X",
        )
        splits = complete_splits((dataset, None, None), config.data, config.seed)
        with tempfile.TemporaryDirectory(prefix="amsdff-") as workdir:
            make_trainer(config, splits, workdir, devices).train()
            self.classifier_ = Classifier.from_pretrained(Path(workdir) / "model", devices=devices)
        self.classes_ = classes
        return self

    def predict(self, X: Iterable[Text]) -> np.ndarray:
        """[N], the most likely class of every text, as it is in `classes_`.

        Raises:
          UserError: something that is no text.
          NotFittedError: `fit` comes first.
        """
        check_is_fitted(self)
        return self.classes_[self.classifier_.logits(_as_texts(X)).argmax(axis=1)]

    def predict_proba(self, X: Iterable[Text]) -> np.ndarray:
        """[N,C] float64, the probability of every class, in the order of `classes_`.

        Raises:
          UserError: something that is no text.
          NotFittedError: `fit` comes first.
        """
        check_is_fitted(self)
        return self.classifier_.predict_proba(_as_texts(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """The parameters, and of a fitted estimator the files of its model folder in the place of the classifier."""
        state = dict(self.__dict__)
        if "classifier_" in state:
            with tempfile.TemporaryDirectory(prefix="amsdff-") as folder:
                self.classifier_.save(folder)
                state["classifier_"] = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Where none of its devices are, as on another machine, the classifier takes all there are."""
        state = dict(state)
        files = state.pop("classifier_", None)
        super().__setstate__(state)
        if files is not None:
            with tempfile.TemporaryDirectory(prefix="amsdff-") as folder:
                for name, content in files.items():
                    (Path(folder) / name).write_bytes(content)
                wanted = () if self.devices is None else self.devices
                devices = [device for place, device in enumerate(jax.devices()) if place in wanted]
                self.classifier_ = Classifier.from_pretrained(folder, devices=devices or None)

    def _find_devices(self) -> list[Device] | None:
        if self.devices is None:
            return None
        there, places = jax.devices(), listed(self.devices, "devices")
        known = all(isinstance(place, int) and 0 <= place < len(there) for place in places)
        if not places or not known or len(set(places)) < len(places):
            raise UserError(f"devices: expected different places from 0 to {len(there) - 1}, got {shown(places)}")
        return [there[place] for place in places]

    def _make_config(self) -> Config:
        config = self.config or Config()
        config = config if isinstance(config, Config) else Config.from_dict(config)
        given = {field.replace(".", "__"): getattr(self, name) for name, field in SETTINGS.items()}
        if isinstance(self.random_state, (int, np.integer)):
            given["seed"] = int(self.random_state)
        elif self.random_state is not None:
            given["seed"] = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        # The numbers of a search are NumPy's.
        return config.replace(**{name: plain(value) for name, value in given.items() if value is not None})


def _check_labels(y: Any) -> None:
    """Raises `UserError` for a missing label, or strings beside numbers, of which NumPy would make classes."""
    if getattr(getattr(y, "dtype", None), "kind", "O") in "biufU":
        return
    labels = [plain(label) for label in listed(y, "y")]
    for place, label in enumerate(labels):
        if is_missing(label):
            raise UserError(f"y[{place}]: expected a class, got {label}")
    if 0 < sum(isinstance(label, str) for label in labels) < len(labels):
        raise UserError("y: expected strings, numbers or truth values, got strings beside others")


def _as_texts(texts: Iterable[Text]) -> list[Any]:
    return [item[1] for item in checked(numbered(texts), None) if not isinstance(item, Pause)]
