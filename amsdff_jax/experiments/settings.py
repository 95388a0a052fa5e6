"""What an experiment is made of: datasets, variants of the model, and how often each is trained."""

import dataclasses
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import import_file
from amsdff_jax.base.validation import coerce, nearest, require, require_choice, without_config_dict
from amsdff_jax.config import Config
from amsdff_jax.config.renamed import with_current_names

if TYPE_CHECKING:
    from ml_collections import ConfigDict

OTHER_METHODS = ("tfidf", "setfit")  # the variants that are not classifiers of this package
MODES = ("finetuned", "frozen")
# Fields of `train`, as a regular expression, that nothing reads in the frozen mode.
FINETUNED_ONLY = (
    r"epochs|\w*learning_rate(_table)?|accumulation_steps|patience|evaluate_every|checkpoint_every|log_every"
)
REPORTED_SPLITS = ("test", "validation")


@dataclasses.dataclass(frozen=True)
class RunKey:
    """Which run: `fold` is -1 where the dataset's own splits are used."""

    dataset: str
    variant: str
    seed: int
    fold: int = -1

    def __str__(self) -> str:
        return f"{self.dataset} {self.variant} seed {self.seed}" + (f" fold {self.fold}" if self.fold >= 0 else "")

    def file(self, folder: Path) -> Path:
        """Where the run's record lies within an experiment's output."""
        fold = f"-fold{self.fold}" if self.fold >= 0 else ""
        return folder / "runs" / self.dataset / f"{self.variant}-seed{self.seed}{fold}.json"


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """All settings of an experiment."""

    datasets: Mapping[str, Config]  # by name, the settings of a run on that dataset
    # by name, what is different in them: sections and fields of `Config`. `tfidf` stands for TF-IDF features under
    # logistic regression, `setfit` for the library of this name; both have no settings
    variants: Mapping[str, Mapping[str, Any]]
    reference: str = "amsdff"  # the variant that the others are compared with
    seeds: int = 3  # runs of each variant on each dataset, with the seeds 0, 1, ...
    # 0: train on the training split, choose by the validation split, report the test split; k: all training and
    # validation texts in k stratified parts, each of which is once what is reported
    folds: int = 0
    # "test", or "validation", which may be looked at as often as one likes, so that settings can be chosen by it. The
    # best epoch is chosen by it too, so that its figures are a little too good, for all variants alike
    reported_split: str = "test"
    # "finetuned": the encoder learns too; "frozen": its features are computed once and all seeds and learning rates
    # of a variant are trained at a time
    mode: str = "finetuned"
    # of the frozen mode; the best on the validation split is reported
    learning_rates: tuple[float, ...] = (2e-4, 6e-4, 2e-3, 6e-3)
    epochs: int = 5  # of the frozen mode

    def __post_init__(self) -> None:
        for name in ("seeds", "epochs"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        folds, rates = self.folds, self.learning_rates
        require(folds == 0 or folds >= 2, "folds", folds, "at least 2, or 0 for the dataset's own splits")
        require_choice("mode", self.mode, MODES)
        require_choice("reported_split", self.reported_split, REPORTED_SPLITS)
        whole = self.reported_split == "test" or not folds
        require(whole, "reported_split", self.reported_split, "test with folds, which report parts of all other texts")
        for field in ("datasets", "variants"):
            for name in getattr(self, field):  # which files and folders are called after
                require(name == Path(name).name, field, name, "names without a slash")
        above_0 = bool(rates) and all(rate > 0 for rate in rates)
        require(above_0, "learning_rates", rates, "one or more numbers above 0")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ExperimentConfig":
        """Builds and validates it from a nested mapping such as the `ConfigDict` of `configs/experiments.py`.

        Raises:
          UserError: a name that does not exist, a value of the wrong type or out of range, no dataset, a variant that
            does not make a valid `Config`.
        """
        values = dict(without_config_dict(values))
        kinds = typing.get_type_hints(cls)
        for name in values:
            if name not in kinds:
                raise UserError(f"{name}: no such field{nearest(name, kinds)}")
        sections = {"datasets": values.pop("datasets", None), "variants": values.pop("variants", {})}
        for name, section in sections.items():
            there = isinstance(section, Mapping) and (bool(section) or name == "variants")
            require(there, name, section, "names, and settings of each")
        datasets = {}
        for name, settings in sections["datasets"].items():
            try:
                datasets[name] = Config.from_dict(settings)
            except UserError as error:
                raise UserError(f"datasets.{name}.{error}") from None
        others = {name: coerce(value, kinds[name], name) for name, value in values.items()}
        config = cls(datasets=datasets, variants=sections["variants"], **others)
        for dataset in config.datasets:
            for variant in config.variants:
                config.run_config(dataset, variant, 0)
        return config

    def check(self, changed: Iterable[str]) -> None:
        """Raises `UserError` without models, or the reference among them, or if a changed setting decides nothing.

        Args:
          changed: the dotted names of settings that are given as flags.
        """
        require(bool(self.variants), "variants", self.variants, "names, and settings of each")
        require_choice("reference", self.reference, tuple(self.variants))
        for name in changed:
            if self.mode != "frozen" and name in ("learning_rates", "epochs"):
                raise UserError(f"--config.{name}: decides nothing in mode={self.mode}; add --config.mode=frozen")
            if self.mode == "frozen" and re.fullmatch(rf"(datasets|variants)\.[^.]+\.train\.({FINETUNED_ONLY})", name):
                way_out = "use --config.learning_rates, --config.epochs, or --config.mode=finetuned"
                raise UserError(f"--config.{name}: decides nothing in mode=frozen; {way_out}")

    def select(self, datasets: Sequence[str], variants: Sequence[str]) -> "ExperimentConfig":
        """The experiment with some of the datasets and variants only; an empty list keeps all.

        Raises:
          UserError: a name that does not exist.
        """
        for kind, chosen, there in (("dataset", datasets, self.datasets), ("model", variants, self.variants)):
            for name in chosen:
                if name not in there:
                    raise UserError(f"{name}: no such {kind}{nearest(name, there)}; there are {', '.join(there)}")
        return dataclasses.replace(
            self,
            datasets={name: value for name, value in self.datasets.items() if name in (datasets or self.datasets)},
            variants={name: value for name, value in self.variants.items() if name in (variants or self.variants)},
        )

    def run_keys(self, dataset: str, variant: str) -> list[RunKey]:
        """All runs of a variant on a dataset: one for each seed, or one for each fold, whose number is its seed."""
        if self.folds:
            return [RunKey(dataset, variant, seed=fold, fold=fold) for fold in range(self.folds)]
        return [RunKey(dataset, variant, seed) for seed in range(self.seeds)]

    def run_config(self, dataset: str, variant: str, seed: int) -> Config:
        """The settings of one run.

        Raises:
          UserError: the variant does not make valid settings.
        """
        values = dataclasses.asdict(self.datasets[dataset]) | {"seed": seed}
        if variant in OTHER_METHODS:
            return Config.from_dict(values)
        try:
            return Config.from_dict(_merge(values, with_current_names(self.variants[variant])))
        except UserError as error:
            raise UserError(f"variants.{variant}.{error}") from None


def run_settings(file: str | Path) -> "ConfigDict":
    """The settings in a config file such as `configs/agnews.py`."""
    return import_file(Path(file)).get_config()


def default_experiment() -> "ConfigDict":
    """The defaults, without datasets and variants, as a `ConfigDict` for the files in `configs/` to fill in."""
    from ml_collections import ConfigDict

    fields = {field.name: field.default for field in dataclasses.fields(ExperimentConfig)}
    return ConfigDict(fields | {"datasets": ConfigDict(), "variants": ConfigDict()})


def _merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, change in changes.items():
        merged[name] = _merge(values.get(name, {}), change) if isinstance(change, Mapping) else change
    return merged
