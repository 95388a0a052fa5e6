"""A trained model as its users know it: texts in, names of classes out."""

import itertools
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from flax import nnx

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import require
from amsdff_jax.data.chunks import Pause, chunks, until_error
from amsdff_jax.data.texts import Tag, Text, characters, checked, is_pair, numbered, unlabelled
from amsdff_jax.data.tokenization import pad_token_id, tokenize
from amsdff_jax.data.tokens import TokenizedDataset
from amsdff_jax.evaluation.calibration_file import (
    AnyCalibration,
    neutral_calibration,
    read_calibration,
    write_calibration,
)
from amsdff_jax.evaluation.inference import NOT_FINITE, Inference, make_forward, require_finite
from amsdff_jax.evaluation.model_card import record_facts, recorded_facts
from amsdff_jax.explanation.explain import Explainer, Explanation
from amsdff_jax.interop.hub import find_model_folder, push_model_folder
from amsdff_jax.models.model_folder import SavedModel, read_model_folder, replace_model_folder, write_model
from amsdff_jax.models.variables import Variables, graph_identity, make_inference_variables
from amsdff_jax.parallel.data_parallel import DataParallel, Device
from amsdff_jax.parallel.forks import claim_process
from amsdff_jax.prediction.prediction import AnyPrediction, make_predictions

BATCH_SIZE = 64
SMALL_BATCH_SIZE = 8  # a few texts do not have to wait for the time that a whole batch takes
BATCHES_IN_CHUNK = 64  # so many batches are sorted by length together
CHARACTERS_IN_CHUNK = 1 << 21  # bounds the memory of very long texts

# Of texts in masked semantics, each compiled once, when it is first needed. Steps of a third or a half: finer ones
# would save less padding than their compilation costs.
BUCKETS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


class Scores(NamedTuple):
    """What a model says of N texts.

    Attributes:
      predictions: each with all classes in its `top_k`; None where the model's numbers are not finite.
      logits: [N,C] float32.
      tokens: [N] that were read, special ones included.
    """

    predictions: list[AnyPrediction | None]
    logits: np.ndarray
    tokens: np.ndarray


class Classifier:
    """A trained model that labels texts.

    A text is a string, or a tuple of two for a model of pairs. Texts are sorted by length into batches, and every
    padded length is compiled once; results come in the order of the texts. Labels and probabilities are those of
    `amsdff evaluate`, but for rounding and for the temperature of a calibrated model. All methods may be
    called from several threads at a time, but not in a process that was forked after the model was loaded. What is
    wrong with a text names its place, from 0: "texts[3]: expected a string, got None".

    Attributes:
      saved: the model, its tokenizer, class names and maximal length.
      calibration: what `amsdff calibrate` found; None: probabilities are the model's own.
      platform: of the devices: "cpu", "gpu" or "tpu".
    """

    def __init__(
        self,
        saved: SavedModel,
        calibration: AnyCalibration | None = None,
        *,
        batch_size: int = BATCH_SIZE,
        devices: Sequence[Device] | None = None,
    ):
        """Puts the model on the devices.

        Args:
          saved: a model in eval mode, with a tokenizer.
          calibration: of this model.
          batch_size: texts that go through the model together, over all devices.
          devices: by default all there are.

        Raises:
          UserError: the batch size is not positive, or there is no tokenizer.
        """
        claim_process()
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        if saved.tokenizer is None:
            raise UserError("the model has no tokenizer; a classifier of texts needs one")
        self.saved, self.calibration = saved, calibration
        self._calibration = calibration or neutral_calibration(saved.class_names, saved.task)
        parallel = DataParallel(devices=devices)
        self.platform = parallel.platform
        model = saved.model.for_platform(parallel.platform)
        graph = nnx.graphdef(model)
        self._inference, self._small_inference = (
            Inference(
                make_forward(graph),
                parallel,
                size,
                "prediction",
                identity=graph_identity(graph),
                windows=model.windows,
            )
            for size in (batch_size, min(batch_size, SMALL_BATCH_SIZE))
        )
        prepare = parallel.compile_eval_step(make_inference_variables(graph))
        self._variables = prepare(parallel.replicate(Variables.of(model)))
        self._buckets = (saved.max_length,)
        if saved.model.config.mask_padding:
            self._buckets = (*(length for length in BUCKETS if length < saved.max_length), saved.max_length)
        # A tokenizer holds its last call's settings, and the explainer has the same one.
        self._tokenizing = threading.Lock()
        self._explainer: Explainer | None = None
        self._facts: dict[str, Any] = {}

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        revision: str = "",
        compute_dtype: str = "",
        batch_size: int = BATCH_SIZE,
        devices: Sequence[Device] | None = None,
    ) -> Self:
        """The classifier in a model folder, such as a run's `model/`, or on the Hugging Face hub.

        Args:
          folder: written by training or by `amsdff convert`; or, as a string, the hub id of one that was pushed, such
            as `org/name`, where there is no folder of that name.
          revision: branch, tag or commit on the hub; "": its main branch.
          compute_dtype: "float32", "bfloat16" or "auto"; "": as saved.
          batch_size: texts that go through the model together, over all devices.
          devices: by default all there are.

        Raises:
          UserError: the folder is missing, incomplete, damaged or of a newer format.
        """
        claim_process()
        folder = find_model_folder(folder, revision)
        saved = read_model_folder(folder, **({"compute_dtype": compute_dtype} if compute_dtype else {}))
        calibration = read_calibration(folder, saved.class_names, saved.task)
        classifier = cls(saved, calibration, batch_size=batch_size, devices=devices)
        classifier._facts = recorded_facts(folder)
        return classifier

    def save(self, folder: str | Path) -> None:
        """Writes a model folder that `from_pretrained` makes the same classifier of, its calibration included.

        The model card is that of the folder that this was read from. A model folder that is there already is replaced
        once the new one is complete; it may be that folder itself.

        Args:
          folder: a new folder, or a model folder.

        Raises:
          UserError: the folder cannot be written, or holds something else.
        """
        with replace_model_folder(folder) as partial:
            with self._tokenizing:
                write_model(partial, self.saved)
            if self.calibration is not None:
                write_calibration(partial, self.calibration)
            record_facts(partial, self._facts)

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> str:
        """Makes the folder that `save` writes a repository on the Hugging Face hub, once it has been read back.

        The token is that of `hf auth login` or of the environment's `HF_TOKEN`.

        Args:
          repo_id: such as `org/name`; made if need be, and otherwise replaced file by file.
          private: of a new repository; one that is public already is refused then.

        Returns:
          The address of the commit.

        Raises:
          UserError: the folder cannot be written, or the hub refuses it.
        """
        with tempfile.TemporaryDirectory(prefix="amsdff-push-") as scratch:
            folder = Path(scratch) / "model"
            self.save(folder)
            read_model_folder(folder)
            read_calibration(folder, self.class_names, self.saved.task)
            return push_model_folder(folder, repo_id, private=private)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C classes, in the order of the columns of `predict_proba`."""
        return self.saved.class_names

    @property
    def max_length(self) -> int:
        """Tokens that a text is truncated to, or those of a window, special ones included."""
        return self.saved.max_length

    def predict(self, texts: Iterable[Text] | Text, top_k: int | None = 1) -> list[AnyPrediction] | AnyPrediction:
        """Labels texts, or a single one.

        Args:
          texts: strings, or tuples of two, in a list or a column of a table. A string alone is one text; a tuple of two
            strings alone is one text of a model that was trained on pairs, and two of any other.
          top_k: as many classes are in `Prediction.top_k`; None: all.

        Returns:
          A prediction for each text in their order; for a single text its prediction, without a list.

        Raises:
          UserError: something that is no text, or a text that the model's numbers are not finite for.
        """
        if self._is_single(texts):
            only: list[Any] = [texts]
            return next(self.stream(only, top_k))
        return list(self.stream(texts, top_k))

    def stream(self, texts: Iterable[Text], top_k: int | None = 1) -> Iterator[AnyPrediction]:
        """Labels any number of texts in bounded memory, in order.

        A few thousand texts are read ahead of the prediction that is yielded.

        Raises:
          UserError: something that is no text, or a text that the model's numbers are not finite for, once it is
            reached; whatever the reading of `texts` raises is raised there, too.
        """
        claim_process()
        return self._stream(numbered(texts), top_k)

    def _stream(self, texts: Iterable[tuple[int, Text]], top_k: int | None) -> Iterator[AnyPrediction]:
        for place, prediction in self.annotate(texts, top_k):
            if prediction is None:
                raise UserError(f"texts[{place}]: {NOT_FINITE}")
            yield prediction

    def annotate(
        self, items: Iterable[tuple[Tag, Text | None] | Pause], top_k: int | None = 1
    ) -> Iterator[tuple[Tag, AnyPrediction | None]]:
        """Labels the texts of records, in order: (anything, text) becomes (the same thing, prediction).

        Where there is no text, or one that the model's numbers are not finite for, there is no prediction. A `PAUSE`
        among the items brings out what has been read.

        Raises:
          UserError: something that is no text, once it is reached.
        """
        return itertools.chain.from_iterable(self.annotate_chunks(items, top_k))

    def annotate_chunks(
        self, items: Iterable[tuple[Tag, Text | None] | Pause], top_k: int | None = 1, skip: int = 0
    ) -> Iterator[list[tuple[Tag, AnyPrediction | None]]]:
        """Labels the texts of records in lists, as they go through the model together.

        Where there is no pause among the items, how they are divided depends on them alone. As the last digits of a
        probability depend on the texts beside it, this gives the same ones after an interruption.

        Args:
          items: (anything, text).
          top_k: as many classes are in `Prediction.top_k`; None: all.
          skip: so many items at the beginning are divided with the others, but neither labelled nor yielded.

        Raises:
          UserError: something that is no text, once it is reached.
        """
        fits = top_k is None or (isinstance(top_k, (int, np.integer)) and top_k >= 1)
        require(fits, "top_k", top_k, "at least 1, or None for all classes")
        for chunk, logits, truncated in self._run(items, skip):
            predictions = make_predictions(logits, truncated, self._calibration, top_k)
            yield [(tag, None if text is None else next(predictions)) for tag, text in chunk]

    def predict_proba(self, texts: Iterable[Text] | Text) -> np.ndarray:
        """[N,C] float64, the probability of every class; calibrated, if the model is. [C] for a single text.

        Raises:
          UserError: as for `predict`.
        """
        return self._calibration.probabilities(self.logits(texts))

    def logits(self, texts: Iterable[Text] | Text) -> np.ndarray:
        """[N,C] float32, what the model says before softmax and calibration. [C] for a single text.

        Raises:
          UserError: as for `predict`.
        """
        if self._is_single(texts):
            only: list[Any] = [texts]
            return self.logits(only)[0]
        pieces = [np.zeros((0, len(self.class_names)), np.float32)]
        pieces += [logits for _, logits, _ in self._run(numbered(texts))]
        logits = np.concatenate(pieces)
        require_finite(logits, lambda row: f"texts[{row}]")
        return logits

    def explain(self, text: str, class_name: str = "") -> Explanation:
        """What in `text` speaks for a class, by default for the one that wins; `amsdff explain` makes pages of it.

        Raises:
          UserError: no such class, something that is no text, or one that the model's numbers are not finite for.
        """
        claim_process()
        with self._tokenizing:
            self._explainer = self._explainer or Explainer(self.saved)
            return self._explainer.explain(text, class_name)

    def compile(self) -> None:
        """Compiles `score` for every padded length, so that no text has to wait for it.

        Texts that are read in several windows are not among them: their lengths have no end.
        """
        claim_process()
        padding = pad_token_id(self.saved.require_tokenizer())
        for inference in {self._scoring_for(1), self._scoring_for(self._inference.batch_size)}:
            # Whole batches of each length, for a text is padded to the longest of its batch.
            lengths = np.repeat(self._buckets, inference.batch_size)
            tokens = TokenizedDataset(
                token_ids=np.full(lengths.sum(), padding, np.int32),
                offsets=np.cumsum([0, *lengths], dtype=np.int64),
                labels=np.zeros(len(lengths), np.int32),
                truncated=np.zeros(len(lengths), bool),
                pad_token_id=padding,
            )
            inference.compile(self._variables, tokens, self._buckets)

    def score(self, texts: list[Text]) -> Scores:
        """All that a few texts get, in the thread that calls: as `annotate`, but without threads of its own."""
        claim_process()
        tokens = self._tokenize(texts)
        logits = self._scoring_for(len(tokens))(self._variables, tokens, self._buckets)
        predictions = list(make_predictions(logits, tokens.truncated, self._calibration, None))
        return Scores(predictions, logits, tokens.lengths)

    def _scoring_for(self, number: int) -> Inference:
        # A CPU takes as long for eight small batches as for a large one, which pads more and is seldom full.
        is_small = self.platform == "cpu" or number <= self._small_inference.batch_size
        return self._small_inference if is_small else self._inference

    def _is_single(self, texts: Any) -> bool:
        return isinstance(texts, str) or (bool(self.saved.reads_pairs) and is_pair(texts))

    def _run(
        self, items: Iterable[tuple[Any, Text | None] | Pause], skip: int = 0
    ) -> Iterator[tuple[list, np.ndarray, np.ndarray]]:
        """Chunks of the items, each with the logits [n,C] of its n texts and whether they were truncated, [n] bool."""
        smallest, largest = self._inference.batch_size, BATCHES_IN_CHUNK * self._inference.batch_size
        errors: list[Exception] = []
        # What was read before an error comes out before it.
        items = until_error(checked(items, self.saved.reads_pairs), errors)
        with ThreadPoolExecutor(1) as tokenizing:
            pending = None
            for chunk in chunks(items, smallest, largest, lambda item: characters(item[1]), CHARACTERS_IN_CHUNK):
                claim_process()  # a stream may be begun before a fork and resumed after it
                chunk, skip = chunk[skip:], max(skip - len(chunk), 0)
                # While the devices compute one chunk, the next one is tokenized.
                following = (chunk, tokenizing.submit(self._prepare, chunk)) if chunk else None
                if pending is not None:
                    yield self._finish(*pending)
                pending = following
            if pending is not None:
                yield self._finish(*pending)
        if errors:
            raise errors[0]

    def _prepare(self, chunk: list[tuple[Any, Text | None]]) -> TokenizedDataset | None:
        """The tokens of a chunk's texts, if there are any; compiles what is new."""
        texts = [text for _, text in chunk if text is not None]
        if not texts:
            return None
        tokens = self._tokenize(texts)
        self._inference_for(tokens).compile(self._variables, tokens, self._buckets)
        return tokens

    def _tokenize(self, texts: list[Text]) -> TokenizedDataset:
        with self._tokenizing:
            tokenizer, limit = self.saved.require_tokenizer(), (self.max_length, self.saved.long_texts)
            return tokenize(unlabelled(texts, self.class_names), tokenizer, *limit)

    def _finish(self, chunk: list, prepared: Future[TokenizedDataset | None]) -> tuple[list, np.ndarray, np.ndarray]:
        claim_process()
        tokens = prepared.result()
        if tokens is None:
            return chunk, np.zeros((0, len(self.class_names)), np.float32), np.zeros(0, bool)
        return chunk, self._inference_for(tokens)(self._variables, tokens, self._buckets), tokens.truncated

    def _inference_for(self, tokens: TokenizedDataset) -> Inference:
        small = len(tokens) <= self._small_inference.batch_size
        return self._small_inference if small else self._inference
