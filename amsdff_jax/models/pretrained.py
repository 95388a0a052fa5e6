"""What all classifiers share: a pretrained encoder, found and loaded, under new layers."""

import dataclasses
import logging
from pathlib import Path
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import first_of, require
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.data.windows import Windows
from amsdff_jax.interop.encoder_files import check_encoder_sizes, read_encoder_config, read_encoder_weights
from amsdff_jax.interop.hub import find_encoder
from amsdff_jax.models.attention import MultiheadAttention
from amsdff_jax.models.dispatch import choose_attention
from amsdff_jax.models.dropout import dropout_seed, number_dropout_sites
from amsdff_jax.models.encoders.blocks import Encoder
from amsdff_jax.models.encoders.registry import make_encoder
from amsdff_jax.models.lora import add_adapters
from amsdff_jax.models.shapes import Features, Features32, Mask, Seed
from amsdff_jax.models.state_dict import load_state_dict, to_state_dict
from amsdff_jax.models.variables import abstract_model
from amsdff_jax.models.windows import encode_windows

logger = logging.getLogger(__name__)


def find_encoder_config(config: ModelConfig) -> tuple[Path, EncoderConfig]:
    """The encoder's folder, or the file that gives the sizes of a random one; and the sizes.

    Raises:
      UserError: no such encoder, or one of a family that is not there.
    """
    place = find_encoder(config.encoder) if config.encoder else Path(config.encoder_config)
    sizes = read_encoder_config(place)
    rate = config.encoder_attention_dropout_rate
    return place, sizes if rate < 0 else dataclasses.replace(sizes, attention_dropout=rate)


class PretrainedClassifier(nnx.Module):
    """A classifier that stands on an encoder.

    The constructor, `(config, encoder_config, *, rngs, platform)`, makes random weights; `from_pretrained`
    stands them on a pretrained encoder; `amsdff_jax.load_model` reads a trained classifier.

    Attributes:
      name: what `model.name` in a config calls this kind of classifier.
      config: shape and padding semantics; `config.num_classes` is set.
      encoder_config: sizes of the encoder.
      platform: what it was built to compute on: "cpu", "gpu" or "tpu".
      transformer: the encoder.
      windows: how it reads texts of more tokens than one has; None: it takes none that are longer than its encoder
        does. Set by `read_in_windows`.
      needs_data_init: whether the layers after the encoder are random and have yet to be fitted, by `fit_new_layers`
        or, of ordered classes, the thresholds between them.
    """

    name: ClassVar[str]
    can_fit_new_layers: ClassVar[bool] = False
    needs_data_init: bool
    config: ModelConfig
    encoder_config: EncoderConfig
    platform: str
    transformer: Encoder
    windows: Windows | None

    def __init__(
        self, config: ModelConfig, encoder_config: EncoderConfig, *, rngs: nnx.Rngs, platform: str | None = None
    ):
        raise NotImplementedError

    def __call__(
        self,
        input_ids: Int[Array | np.ndarray, "B S"],
        attention_mask: Shaped[Array | np.ndarray, "B S"],
        dropout_key: PRNGKeyArray | None = None,
    ) -> Any:
        """Classifies a batch of tokenized texts.

        Args:
          input_ids: numbers of tokens in the encoder's vocabulary.
          attention_mask: 1 on real tokens. A row of zeros is filler: its outputs are finite
            and mean nothing, and BatchNorm does not count it.
          dropout_key: needed in train mode only.

        Returns:
          What `classify` returns.
        """
        mask = jnp.asarray(attention_mask, bool)
        seed = None if dropout_key is None else dropout_seed(dropout_key)
        return self.classify(self.encode(jnp.asarray(input_ids), mask, seed), mask, seed)

    def encode(self, input_ids: Int[Array, "B S"], mask: Mask, seed: Seed | None = None) -> Features32:
        """What the encoder makes of token ids, of more than a window's in windows.

        Args:
          mask: true on real tokens.
          seed: of the dropouts; needed in train mode only.

        Raises:
          ValueError: more tokens than the encoder takes, and no `windows`.
        """
        if self.windows is None:
            return self.transformer(input_ids, mask, seed)
        return self.encode_words(self.transformer.embeddings.look_up(input_ids), mask, seed)

    def encode_words(self, words: Float[Array, "B S E"], mask: Mask, seed: Seed | None = None) -> Features32:
        """What `encode` gives, of word embeddings instead of token ids."""
        if self.windows is None or words.shape[1] <= self.windows.size:
            return self.transformer.encode_words(words, mask, seed)
        return encode_windows(self.transformer, self.windows, words, mask, seed)

    def read_in_windows(self, windows: Windows | None) -> None:
        """Sets how texts of more tokens than one window has are read; what shorter ones give stays the same.

        Beyond, tokens that are more than a window apart do not attend to each other, neither in the encoder nor in the
        layers behind it.

        Raises:
          UserError: reference semantics, in which a text's answer depends on what it is padded to.
        """
        masked = self.config.mask_padding
        require(windows is None or masked, "model.mask_padding", masked, "true with data.long_texts=windows")
        self.windows = windows
        radius = None if windows is None else windows.size
        self.set_attributes(MultiheadAttention, radius=radius, raise_if_not_found=False)

    def classify(self, encoder_output: Features, mask: Mask, seed: Seed | None = None) -> Any:
        """Everything after the encoder; a named tuple with at least `logits`, `pooled_features` and `encoder_output`.

        Args:
          mask: true on real tokens.
          seed: of the dropouts; needed in train mode only.
        """
        raise NotImplementedError

    def fit_new_layers(self, encoder_output: Features, mask: Mask) -> None:
        """Fits random layers to data before training; for models so deep that it helps (`can_fit_new_layers`).

        Args:
          encoder_output: of some texts to train on.
          mask: true on real tokens.
        """
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, encoder: str, num_classes: int, *, seed: int = 0, **fields: Any) -> Self:
        """A pretrained encoder under a new, random classifier.

        Args:
          encoder: a folder in transformers' format, `minilm-l6`, or a hub id such as `distilbert-base-uncased`.
          num_classes: number of classes, C.
          seed: of the new weights.
          **fields: any other field of `ModelConfig`, such as `mask_padding=False`.

        Raises:
          UserError: no such encoder, or one that does not fit.
        """
        return cls.from_config(
            ModelConfig(name=cls.name, encoder=encoder, num_classes=num_classes, **fields), seed=seed
        )

    @classmethod
    def from_config(cls, config: ModelConfig, *, seed: int = 0) -> Self:
        """The model that `config` describes, with `config.encoder`'s weights.

        An empty `config.encoder` with `config.encoder_config` gives a random encoder.

        Raises:
          UserError: no such encoder, or one that does not fit.
        """
        if config.num_classes < 1:
            raise UserError(f"model.num_classes: expected at least 1, got {config.num_classes}")
        if not config.encoder and not config.encoder_config:
            raise UserError(
                "model.encoder: empty; name an encoder, or give the sizes of a random one with "
                "--config.model.encoder_config=FILE"
            )
        folder, sizes = find_encoder_config(config)
        if not config.encoder or config.reinit_encoder:
            if config.encoder:
                logger.info("encoder %s: sizes only, random weights (model.reinit_encoder)", config.encoder)
            else:
                logger.info("encoder: random weights, as asked for (model.encoder is empty)")
            return cls._with_new_layers(config, sizes, seed)
        # First, because a module of other sizes than the weights have may be too large to be built.
        weights = read_encoder_weights(folder, sizes.model_type)
        check_encoder_sizes(sizes, weights.tensors, str(weights.file), str(folder / "config.json"))
        encoder = abstract_model(lambda rngs: make_encoder(sizes, rngs=rngs))
        load_state_dict(encoder, weights.tensors, str(weights.file))
        model = cls._with_new_layers(config, sizes, seed)
        nnx.update(model.transformer, nnx.state(encoder))
        loaded, ignored = len(weights.tensors), weights.ignored
        left_out = f"{len(ignored)} left out ({first_of(ignored)})" if ignored else "0 left out"
        new = len(to_state_dict(model)) - len(to_state_dict(model.transformer))
        message = "encoder %s: %d tensors loaded, %s, %d new (everything after the encoder)"
        logger.info(message, config.encoder, loaded, left_out, new)
        return model

    @classmethod
    def _with_new_layers(cls, config: ModelConfig, sizes: EncoderConfig, seed: int) -> Self:
        model = cls(config, sizes, rngs=nnx.Rngs(seed))
        model.needs_data_init = cls.can_fit_new_layers or config.ordinal
        return model

    def for_platform(self, platform: str, **fields: Any) -> Self:
        """The model as it is to compute on `platform`: itself, or another in eval mode with the same numbers.

        What `config` leaves to "auto" depends on the platform. So whoever puts a model on devices takes this one.

        Args:
          platform: as `jax.Device.platform` names it.
          **fields: of `ModelConfig`, to be other than the model's.
        """
        if platform == self.platform and not fields:
            return self
        config = dataclasses.replace(self.config, **fields)
        model = abstract_model(lambda rngs: type(self)(config, self.encoder_config, rngs=rngs, platform=platform))
        nnx.update(model, nnx.state(self, (nnx.Param, nnx.BatchStat)))
        model.read_in_windows(self.windows)
        return model

    def _complete(self, config: ModelConfig, encoder_config: EncoderConfig, platform: str, rngs: nnx.Rngs) -> None:
        """The last line of every constructor."""
        add_adapters(self.transformer, config, rngs=rngs)  # last, so that a seed gives the other weights that it gave
        self.config = dataclasses.replace(config, name=self.name)
        self.encoder_config = encoder_config
        self.platform = platform
        self.windows = None
        self.needs_data_init = False  # one attribute more or less would make it another graph
        number_dropout_sites(self)
        implementation = choose_attention(config.attention, platform)
        self.set_attributes(implementation=implementation, raise_if_not_found=False)
        self.set_attributes(Encoder, rematerialize=config.rematerialize)
        self.eval()
