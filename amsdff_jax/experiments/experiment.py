"""Makes all runs of an experiment that have no record yet."""

import dataclasses
import functools
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.records import free_name
from amsdff_jax.config import Config, DataConfig, TaskConfig
from amsdff_jax.data.dataset import KINDS, stratified_split
from amsdff_jax.data.folds import stratified_folds
from amsdff_jax.data.sources import DataSplits, load_data
from amsdff_jax.evaluation.inference import StoppedError
from amsdff_jax.experiments.finetuned import run_finetuned
from amsdff_jax.experiments.frozen import run_frozen
from amsdff_jax.experiments.record import TITLES, Outcome, RunRecord, headline, settings_digest
from amsdff_jax.experiments.setfit_baseline import run_setfit
from amsdff_jax.experiments.settings import OTHER_METHODS, ExperimentConfig, RunKey
from amsdff_jax.experiments.tfidf import run_tfidf
from amsdff_jax.training.workdir import lock_workdir

logger = logging.getLogger(__name__)


def run_experiment(
    config: ExperimentConfig,
    output: Path,
    should_stop: Callable[[], bool] = lambda: False,
    datasets: Sequence[str] = (),
    variants: Sequence[str] = (),
) -> bool:
    """Makes every run that has no record of these settings yet, and writes its record.

    A run that fails is recorded with its error, and made again the next time; the others continue. A record of other
    settings or data is moved to `outdated/`, whichever its model, so that all that are left of a dataset can be
    compared. What is not among `datasets` is neither loaded nor looked at.

    Args:
      output: folder of the records (`runs/`) and of what unfinished runs have left (`unfinished/`).
      should_stop: asked before every run and at every step; an unfinished run is saved and resumed by the next
        call.
      datasets, variants: make the runs of these only; (): of all.

    Returns:
      Whether all runs have been made.

    Raises:
      UserError: no such dataset or variant; a record that cannot be written; another process that is at it.
    """
    chosen = config.select(datasets, variants)
    with lock_workdir(output / "unfinished"):
        _set_outdated_aside(config.select(datasets, []), output)
        batches = list(_plan(chosen))
        for number, keys in enumerate(batches, start=1):
            try:
                if should_stop():
                    raise StoppedError
                _make(chosen, keys, output, should_stop, f"{number} of {len(batches)}")
            except StoppedError:
                logger.info("stopped; run the same command again to resume")
                return False
    return True


def _plan(config: ExperimentConfig) -> Iterator[list[RunKey]]:
    """Which runs there are, in order; those that are made at a time stand together."""
    keys = [config.run_keys(dataset, variant) for dataset in config.datasets for variant in config.variants]
    if config.mode == "frozen" and not config.folds:
        yield from keys
        return
    for round_of_runs in zip(*keys, strict=True):  # every model once, so that a first whole table is there soon
        yield from ([key] for key in round_of_runs)


def _set_outdated_aside(config: ExperimentConfig, output: Path) -> None:
    """Moves every record away that is of other settings or data than `config` has now."""
    unchecked: dict[str, UserError] = {}
    for key in (key for keys in _plan(config) for key in keys):
        file = key.file(output)
        try:
            is_current = not file.exists() or _is_current(config, key, file)
        except UserError as error:  # data that is not there at the moment tells nothing about the record
            unchecked.setdefault(key.dataset, error)
            continue
        if not is_current:
            outdated = free_name(output / "outdated" / file.relative_to(output / "runs"))
            outdated.parent.mkdir(parents=True, exist_ok=True)
            file.replace(outdated)
            logger.info("%s: its record is not of these settings and data; moved to %s", key, outdated)
    for dataset, error in unchecked.items():
        logger.warning("%s: its records stay, and cannot be told from those of other settings (%s)", dataset, error)


def _is_current(config: ExperimentConfig, key: RunKey, file: Path) -> bool:
    record = RunRecord.read(file)  # None: it was damaged, and is out of the way
    return record is None or record.settings == _prepare(config, key)[2]


def _make(
    config: ExperimentConfig, keys: list[RunKey], output: Path, should_stop: Callable[[], bool], place: str
) -> None:
    """Makes those of the runs `keys`, which differ in the seed only, that have not been made."""
    keys = [key for key in keys if not _is_done(key, output)]
    if not keys:
        return
    logger.info("run %s: %s", place, ", ".join(map(str, keys)))
    first, settings = keys[0], ""
    try:
        run_config, data, settings = _prepare(config, first)
        workdir = first.file(output / "unfinished").with_suffix("") / settings
        outcomes = _run(config, run_config, keys, data, workdir, should_stop)
    except (StoppedError, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever ends a run must not end the others
        logger.error("%s: failed: %s", first, error, exc_info=not isinstance(error, UserError))
        line = " ".join(f"{type(error).__name__}: {error}".split()).removeprefix("UserError: ")
        for key in keys:
            RunRecord(**dataclasses.asdict(key), settings=settings, error=line).write(key.file(output))
        return
    for key, outcome in zip(keys, outcomes, strict=True):
        record = RunRecord.of(key, settings, outcome)
        record.write(key.file(output))
        metric = headline(record.metrics)
        value, seconds = record.metrics[metric], record.train_seconds
        logger.info("%s: %s %.4f, trained for %.0f s", key, TITLES[metric], value, seconds)
    shutil.rmtree(workdir.parent, ignore_errors=True)  # what a run of other settings may have left, too


def _prepare(config: ExperimentConfig, key: RunKey) -> tuple[Config, DataSplits, str]:
    """A run's settings, its data, and the digest of both.

    Raises:
      UserError: anything wrong with the data.
    """
    # A sweep on a frozen encoder has one order of the data, whichever of its seeds are still to be made.
    run_config = config.run_config(key.dataset, key.variant, 0 if config.mode == "frozen" else key.seed)
    data = _load(config, run_config, key)
    settings = dataclasses.asdict(run_config)
    if key.variant in OTHER_METHODS:  # nothing else changes what they do
        encoder = {} if key.variant == "tfidf" else {"encoder": run_config.model.encoder}
        # Where it is not the default, so that earlier records stay valid.
        task = {} if run_config.task == TaskConfig() else {"task": settings["task"]}
        settings = {"data": settings["data"], "model": key.variant, **encoder, **task}
    elif config.mode == "frozen":
        settings |= {"mode": "frozen", "learning_rates": config.learning_rates, "epochs": config.epochs}
    return run_config, data, settings_digest(settings, data)


def _load(config: ExperimentConfig, run_config: Config, key: RunKey) -> DataSplits:
    # The seeds of a sweep on a frozen encoder share the features, and so the splits. Validation texts that are reported
    # are the same for all seeds, as a comparison text by text takes them to be; with draws of a few texts they differ.
    fixed = config.mode == "frozen" or config.folds
    fixed = fixed or (config.reported_split == "validation" and not run_config.data.shots)
    seed = 0 if fixed else key.seed
    if config.folds and run_config.data.shots:
        problem = f"{run_config.data.shots}, but folds take all training and validation texts; expected 0, or folds=0"
        raise UserError(f"datasets.{key.dataset}.data.shots: {problem}")
    data = _load_once(run_config.data, seed, run_config.task.kind)
    if data.train.task == "regression":
        raise UserError(f"{data.train.name}: has {KINDS['regression']}; amsdff experiments takes classes")
    if config.folds:
        train, held_out = stratified_folds(data.train.join(data.validation), config.folds, seed=0)[key.fold]
        return DataSplits(*stratified_split(train, run_config.data.validation_fraction, key.seed), held_out)
    if config.reported_split == "validation":
        return data._replace(test=data.validation)
    if data.test is None:
        raise UserError(
            f"datasets.{key.dataset}.data: has no test split, which is what is reported; name one, or use --folds=5 or "
            "--config.reported_split=validation"
        )
    return data


@functools.lru_cache(maxsize=1)  # the variants of a dataset come one after another
def _load_once(config: DataConfig, seed: int, task: str) -> DataSplits:
    return load_data(config, seed, task)


def _is_done(key: RunKey, output: Path) -> bool:
    record = RunRecord.read(key.file(output))
    return record is not None and not record.error


def _run(
    config: ExperimentConfig,
    run_config: Config,
    keys: list[RunKey],
    data: DataSplits,
    workdir: Path,
    should_stop: Callable[[], bool],
) -> list[Outcome]:
    if (variant := keys[0].variant) in OTHER_METHODS:
        run = {"tfidf": run_tfidf, "setfit": run_setfit}[variant]
        return [run(run_config.replace(seed=key.seed), data) for key in keys]
    if config.mode == "frozen":
        seeds = [key.seed for key in keys]
        return run_frozen(run_config, data, seeds, config.learning_rates, config.epochs, should_stop)
    return [run_finetuned(run_config, data, workdir, should_stop)]
