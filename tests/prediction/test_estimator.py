"""The estimator of scikit-learn: what is built on scikit-learn takes it for one of its own."""

import pickle

import jax
import numpy as np
import pytest
from sklearn import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from amsdff_jax import AmsdffClassifier, Classifier, UserError
from tests.conftest import make_texts

TEXTS, LABELS = make_texts(61, 4)
NUMBERS = [{"low": 3, "high": -1}[label] for label in LABELS]


@pytest.fixture(scope="module")
def estimator(tiny_encoder):
    """Unfitted, the smallest model on the smallest encoder."""
    return AmsdffClassifier(
        str(tiny_encoder), model="linear", epochs=3, batch_size=8, max_length=24, head_learning_rate=6e-3,
        encoder_learning_rate=3e-3, config={"data": {"num_buckets": 1}, "train": {"eval_batch_size": 16}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(estimator):
    return clone(estimator).fit(TEXTS, NUMBERS)


def test_classes_come_back_as_they_were_given(fitted):
    assert fitted.classes_.tolist() == [-1, 3]
    probabilities = fitted.predict_proba(TEXTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    predicted = fitted.predict(np.array(TEXTS))
    assert predicted.dtype == fitted.classes_.dtype
    np.testing.assert_array_equal(predicted, fitted.classes_[probabilities.argmax(axis=1)])
    assert fitted.score(TEXTS, NUMBERS) == np.mean(predicted == NUMBERS) > 0.8
    assert fitted.classifier_.predict(TEXTS[0]).label == str(predicted[0])


@pytest.mark.slow
def test_a_fit_is_the_same_again_unless_random_state_says_otherwise(estimator, fitted):
    def fit(random_state):
        return clone(estimator).set_params(random_state=random_state).fit(TEXTS, NUMBERS).predict_proba(TEXTS)

    np.testing.assert_array_equal(fit(0), fitted.predict_proba(TEXTS))  # the default of `seed`
    assert np.abs(fit(np.random.RandomState(0)) - fitted.predict_proba(TEXTS)).max() > 1e-3


def test_a_pickle_and_a_saved_folder_say_the_same(fitted, tmp_path):
    expected = fitted.predict_proba(TEXTS)
    pickled = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(pickled.predict_proba(TEXTS), expected)
    assert pickled.classes_.tolist() == [-1, 3]
    assert pickled.get_params() == fitted.get_params()
    fitted.classifier_.save(tmp_path / "model")
    np.testing.assert_array_equal(Classifier.from_pretrained(tmp_path / "model").predict_proba(TEXTS), expected)


@pytest.mark.slow
def test_the_devices_are_those_that_were_named(estimator):
    # 7 texts can be divided among the devices that are named, but not among all.
    fitted = clone(estimator).set_params(devices=np.array([2]), batch_size=7, epochs=1).fit(TEXTS, NUMBERS)
    for each in (fitted, pickle.loads(pickle.dumps(fitted))):
        used = {device for leaf in jax.tree.leaves(each.classifier_._variables) for device in leaf.devices()}
        assert used == {jax.devices()[2]}
    elsewhere = clone(fitted).set_params(devices=[8])
    elsewhere.__dict__ |= {"classifier_": fitted.classifier_, "classes_": fitted.classes_}
    assert len(pickle.loads(pickle.dumps(elsewhere)).predict(TEXTS)) == 61


@pytest.mark.slow
def test_it_learns_from_as_many_texts_of_each_class_as_the_settings_say(estimator, caplog):
    caplog.set_level("INFO")
    config = {**estimator.config, "data": {"num_buckets": 1, "shots": 8}}
    clone(estimator).set_params(config=config, epochs=1).fit(TEXTS, LABELS)
    assert "training: 16 texts" in caplog.text


@pytest.mark.slow
def test_search_by_cross_validation_and_pipelines(estimator):
    rates = {"amsdffclassifier__head_learning_rate": np.array([1e-3, 6e-3])}
    small = clone(estimator).set_params(epochs=1)
    shout = FunctionTransformer(lambda texts: [text.upper() for text in texts])
    search = GridSearchCV(make_pipeline(shout, small), rates, cv=2, error_score="raise").fit(TEXTS, LABELS)
    assert set(search.predict(TEXTS)) <= {"low", "high"}
    assert len(search.cv_results_["mean_test_score"]) == 2


@pytest.mark.slow
def test_pairs_of_texts(estimator):
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    fitted = clone(estimator).set_params(epochs=1).fit(pairs, LABELS)
    assert fitted.classifier_.saved.reads_pairs
    assert fitted.predict_proba(pairs).shape == (61, 2)


@pytest.mark.parametrize(
    ("parameters", "texts", "labels", "message"),
    [
        ({}, "w1", ["a"], "expected a list of texts, got one text, 'w1'"),
        ({}, ["w1", 3], ["a", "b"], r"texts\[1\]: expected a string, got 3"),
        ({}, ["w1", "w2"], ["a", "a"], r"y: expected at least two classes, got one class or none: \['a'\]"),
        ({}, ["w1", "w2"], ["a", "b", "b"], "X: 3 labels for 2 texts"),
        ({}, ["w1", "w2"], [["a", "b"], []], "y: expected one class a text, got lists"),
        ({}, ["w1", "w2"], None, "requires y to be passed, but the target y is None"),
        ({}, ["w1", "w2"], [0.5, 1.5], "Unknown label type"),
        ({}, ["w1", "w2", "w3"], ["a", "b", float("nan")], r"y\[2\]: expected a class, got nan"),
        ({}, ["w1", "w2", "w3"], np.array(["a", None, "b"], object), r"y\[1\]: expected a class, got None"),
        ({}, ["w1", "w2", "w3"], [1, 2, "3"], "y: expected strings, numbers or truth values, got strings beside"),
        ({}, ["w1", "w2"], ["a", "b"], r"X: too few texts \(2\) to take a validation split from"),
        ({"devices": [0, 8]}, ["w1", "w2"], ["a", "b"], r"devices: expected different places from 0 to 7, got \[0, 8"),
        ({"devices": []}, ["w1", "w2"], ["a", "b"], r"devices: expected different places from 0 to 7, got \[\]"),
        ({"epochs": 0}, ["w1", "w2"], ["a", "b"], "train.epochs: expected at least 1, got 0"),
        ({"model": "lstn"}, ["w1", "w2"], ["a", "b"], "model.name: .*did you mean lstm"),
        ({"config": {"train": {"epoch": 1}}}, ["w1", "w2"], ["a", "b"], "train.epoch: no such field"),
    ],
)
def test_mistakes_are_errors_of_values_in_one_line(parameters, texts, labels, message):
    with pytest.raises(ValueError, match=message) as caught:
        AmsdffClassifier(**parameters).fit(texts, labels)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, UserError) or len(str(caught.value)) < 400


def test_predicting_before_fitting_is_the_error_that_scikit_learn_has_for_it():
    for method in (AmsdffClassifier().predict, AmsdffClassifier().predict_proba):
        with pytest.raises(NotFittedError):
            method(["w1"])


class OnNumbers(AmsdffClassifier):
    """Reads rows of numbers, as the checks of scikit-learn have them, as texts: a word for every number."""

    def fit(self, X, y):
        return super().fit(self._texts(X), y)

    def predict(self, X):
        return super().predict(self._texts(X))

    def predict_proba(self, X):
        return super().predict_proba(self._texts(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        tags.no_validation = True  # of numbers, which are none here
        tags.classifier_tags.poor_score = True
        return tags

    def _texts(self, X):
        rows = np.asarray(X, float)
        return [" ".join(f"w{int(20 + 4 * np.clip(value, -4, 4))}" for value in row) for row in rows]


# Those that hold whatever X is. Of the others, what they check is checked above, or is of numbers.
NAMED = (
    "check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr",
    "check_no_attributes_set_in_init", "check_fit_score_takes_y", "check_estimators_overwrite_params",
    "check_dont_overwrite_parameters", "check_estimators_fit_returns_self", "check_estimators_unfitted",
    "check_get_params_invariance", "check_set_params", "check_dict_unchanged", "check_fit_check_is_fitted",
    "check_parameters_default_constructible", "check_requires_y_none", "check_classifiers_one_label",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
@pytest.mark.filterwarnings("ignore")
def test_checks_of_scikit_learn(name, estimator):
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip("this version of scikit-learn does not have it")
    on_numbers = OnNumbers(**estimator.get_params()).set_params(epochs=1)
    check("OnNumbers", on_numbers)
