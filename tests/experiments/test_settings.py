"""Experiments are described in config files, whose mistakes are named."""

from pathlib import Path

import pytest

from amsdff_jax import UserError
from amsdff_jax.experiments.settings import OTHER_METHODS, ExperimentConfig, run_settings

CONFIGS = Path(__file__).parent.parent.parent / "configs"


@pytest.mark.parametrize(
    "name", ["experiments", "ablations", "precision", "few_shot", "fine_tuning", "long_texts", "multi_label"]
)
def test_the_configs_are_valid_and_every_variant_differs(name):
    config = ExperimentConfig.from_dict(run_settings(CONFIGS / f"{name}.py"))
    assert config.reference in config.variants
    for dataset in config.datasets:
        made = [config.run_config(dataset, variant, 1) for variant in config.variants if variant not in OTHER_METHODS]
        assert len(set(made)) == len(made)
        assert all(each.seed == 1 for each in made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": 3}, r"^sedes: no such field; did you mean seeds\?"),
        ({"folds": 1}, "^folds: expected at least 2, or 0"),
        ({"mode": "frosen"}, r"^mode: .* did you mean frozen\?"),
        ({"learning_rates": ()}, "^learning_rates: expected one or more"),
        ({"learning_rates": ("2e-3",)}, "^learning_rates: expected a number, got '2e-3'"),
        ({"seeds": "3"}, "^seeds: expected a whole number"),
        ({"datasets": None}, "^datasets: expected names, and settings of each, got None"),
        ({"variants": 3}, "^variants: expected names, and settings of each, got 3"),
        ({"variants": {"small": {"model": {"num_expert": 1}}}},
         r"^variants\.small\.model\.num_expert: no such field; did you mean num_experts\?"),
        ({"variants": {"small": {"model": {"num_experts": 0}}}}, r"^variants\.small\.model\.num_experts: expected"),
        ({"datasets": {"mine": {"data": {"source": "filez"}}}}, r"^datasets\.mine\.data\.source: expected one of"),
    ],
)  # fmt: skip
def test_mistakes_are_named(change, message):
    values = {"datasets": {"mine": {}}, "variants": {"amsdff": {}}} | change
    with pytest.raises(UserError, match=message):
        ExperimentConfig.from_dict(values)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *(("finetuned", "learning_rates"), ("finetuned", "epochs")),
        *(("frozen", "datasets.tiny.train.epochs"), ("frozen", "datasets.tiny.train.head_learning_rate")),
    ],
)
def test_a_setting_that_decides_nothing_in_the_mode_is_refused(mode, name, make_experiment):
    other = {"finetuned": "frozen", "frozen": "finetuned"}
    with pytest.raises(UserError, match=rf"^--config\.{name}: decides nothing in mode={mode}; .*mode={other[mode]}$"):
        make_experiment(mode=mode).check(["seeds", "datasets.tiny.train.batch_size", name])
    make_experiment(mode=other[mode]).check([name])


def test_an_experiment_has_models_and_the_reference_among_them(make_experiment):
    with pytest.raises(UserError, match=r"^reference: expected one of 'linear', 'tfidf'; did you mean linear\?"):
        make_experiment(reference="linaer").check([])
    with pytest.raises(UserError, match=r"^variants: expected names, and settings of each, got \{\}"):
        make_experiment(variants=()).check([])


def test_a_selection_keeps_the_order_and_names_what_there_is(make_experiment):
    config = make_experiment(("amsdff", "linear", "tfidf"))
    assert list(config.select([], ["tfidf", "amsdff"]).variants) == ["amsdff", "tfidf"]
    with pytest.raises(
        UserError, match=r"^linaer: no such model; did you mean linear\?; there are amsdff, linear, tfi"
    ):
        config.select([], ["linaer"])
    with pytest.raises(UserError, match=r"^tinny: no such dataset; did you mean tiny\?"):
        config.select(["tinny"], [])
