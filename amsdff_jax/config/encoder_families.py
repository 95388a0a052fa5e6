"""Every family of encoders by its `model_type`: how transformers' `config.json` writes its sizes, and back."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import build, require, shown
from amsdff_jax.config.encoders import (
    DebertaConfig,
    ElectraConfig,
    EncoderConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
)


class Family(NamedTuple):
    """How transformers' `config.json` of one `model_type` becomes an `EncoderConfig`.

    Attributes:
      config: the class that it becomes.
      names: transformers' names of the fields, by ours, where the two differ.
      fixed: what must stand there, and what transformers takes where nothing does; everything else is another model.
      adapt: gives what is written in other ways the form that is read here.
    """

    config: type[EncoderConfig]
    names: Mapping[str, str]
    fixed: Mapping[str, tuple[Any, Any]]
    adapt: Callable[[dict[str, Any]], dict[str, Any]] = dict


# The names of transformers' `BertConfig`, and of the families that were made of it.
BERT_NAMES = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
GELU = {"hidden_act": ("gelu", "gelu")}
ABSOLUTE = {"position_embedding_type": ("absolute", "absolute"), **GELU}
# transformers' class takes no other number of buckets and no other padding token.
MPNET_FIXED = GELU | {"relative_attention_num_buckets": (32, 32), "pad_token_id": (1, 1)}
MODERNBERT_NAMES = {name: BERT_NAMES[name] for name in ("dim", "n_layers", "n_heads", "hidden_dim")}
MODERNBERT_FIXED = {
    "hidden_activation": ("gelu", "gelu"),
    "attention_bias": (False, False),
    "mlp_bias": (False, False),
    "norm_bias": (False, False),
}
# What makes transformers' DebertaV2Model that of v3.
DEBERTA_FIXED = GELU | {
    "relative_attention": (True, False),
    "share_att_key": (True, False),
    "pos_att_type": (["p2c", "c2p"], None),
    "norm_rel_ebd": ("layer_norm", "none"),
    "position_biased_input": (False, True),
    "type_vocab_size": (0, 0),
    "conv_kernel_size": (0, 0),
}


def _adapt_modernbert(values: dict[str, Any]) -> dict[str, Any]:
    """Since version 5 of transformers blocks are listed one by one, and their rotary bases stand in a dict."""
    kinds, ropes = values.pop("layer_types", None), values.pop("rope_parameters", None)
    radius, scaling = values.pop("sliding_window", None), values.pop("rope_scaling", None)
    _require_unscaled("rope_scaling", scaling)
    if radius is not None:  # which transformers takes before `local_attention`, that counts both sides
        require(type(radius) is int, "sliding_window", radius, "a whole number")
        values["local_attention"] = 2 * radius
    if isinstance(kinds, list) and kinds:
        every = kinds.index("full_attention", 1) if "full_attention" in kinds[1:] else len(kinds)
        expected = ["sliding_attention" if number % every else "full_attention" for number in range(len(kinds))]
        require(kinds == expected, "layer_types", kinds, "full_attention first and at equal distances")
        values["global_attn_every_n_layers"] = every
    for kind, name in {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}.items():
        rope = ropes.get(kind) if isinstance(ropes, dict) else None
        if isinstance(rope, dict):
            _require_unscaled(f"rope_parameters.{kind}", rope)
            values |= {name: rope["rope_theta"]} if "rope_theta" in rope else {}
        if isinstance(scaling, dict) and "rope_theta" in scaling:  # which transformers takes for both
            values[name] = scaling["rope_theta"]
    return values


def _require_unscaled(field: str, rope: Any) -> None:
    """Raises `UserError` unless rotary positions are turned by their own angles; older configs call the kind `type`."""
    if rope:
        rope = rope if isinstance(rope, dict) else {"rope_type": rope}
        name = "rope_type" if "rope_type" in rope else "type"
        require(rope.get(name, "default") == "default", f"{field}.{name}", rope.get(name), "'default'")


def _adapt_distilbert(values: dict[str, Any]) -> dict[str, Any]:
    """Sizes may have the names of the other families, which transformers takes before its own."""
    names = {BERT_NAMES[name]: name for name in ("dim", "n_layers", "n_heads")}
    return {names.get(name, name): value for name, value in sorted(values.items(), key=lambda item: item[0] in names)}


def _adapt_deberta(values: dict[str, Any]) -> dict[str, Any]:
    """The kinds of attention may be joined by `|`, in any order."""
    kinds = values.get("pos_att_type")
    kinds = kinds.lower().replace(" ", "").split("|") if isinstance(kinds, str) else kinds
    same = isinstance(kinds, list) and len(kinds) == 2 and set(map(str, kinds)) == {"p2c", "c2p"}
    return values | {"pos_att_type": ["p2c", "c2p"] if same else kinds}


def _adapt_bert(values: dict[str, Any]) -> dict[str, Any]:
    return values | {"folded": True}


ROBERTA = Family(RobertaConfig, BERT_NAMES, ABSOLUTE)

FAMILIES = {
    "distilbert": Family(EncoderConfig, {}, {"activation": ("gelu", "gelu")}, _adapt_distilbert),
    "bert": Family(EncoderConfig, BERT_NAMES, ABSOLUTE | {"layer_norm_eps": (1e-12, 1e-12)}, _adapt_bert),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "electra": Family(ElectraConfig, BERT_NAMES, ABSOLUTE),
    "mpnet": Family(MPNetConfig, BERT_NAMES, MPNET_FIXED),
    "modernbert": Family(
        ModernBertConfig, MODERNBERT_NAMES | {"dropout": "mlp_dropout"}, MODERNBERT_FIXED, _adapt_modernbert
    ),
    "deberta-v2": Family(DebertaConfig, BERT_NAMES, DEBERTA_FIXED, _adapt_deberta),
}


def read_encoder_values(values: Mapping[str, Any]) -> EncoderConfig:
    """The sizes in what a `config.json` of transformers holds; what does not matter here is left out.

    Raises:
      UserError: a kind of model that is not there, a variant of one, or sizes that are none.
    """
    family, values = _find_family(values)
    names = {family.names.get(field.name, field.name): field.name for field in dataclasses.fields(family.config)}
    return build(family.config, {names[name]: value for name, value in values.items() if name in names}, "")


def read_saved_encoder(values: Any) -> EncoderConfig:
    """The sizes in what `encoder_values` gave, as model folders and runs hold it under `encoder`.

    Raises:
      UserError: as `read_encoder_values`; a name that is not known.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"encoder: expected names and values, got {shown(values)}")
    values = {"model_type": EncoderConfig.model_type, **values}
    family, values = _find_family(values)
    ours = {theirs: name for name, theirs in family.names.items()}
    own = {name: value for name, value in values.items() if name not in ("model_type", *family.fixed)}
    return build(family.config, {ours.get(name, name): value for name, value in own.items()}, "encoder.")


def encoder_values(config: EncoderConfig) -> dict[str, Any]:
    """The sizes under transformers' names, and all else that its class for the encoder needs to be told.

    BERT's are those of the DistilBERT that it is folded into.
    """
    if config.model_type == EncoderConfig.model_type:  # as when there was no other family
        return {name: value for name, value in dataclasses.asdict(config).items() if name != "folded" or value}
    return transformers_values(config)


def transformers_values(config: EncoderConfig) -> dict[str, Any]:
    """What `config.json` of the encoder's `native_type` says of it in transformers."""
    family = FAMILIES[config.native_type]
    values = {family.names.get(name, name): value for name, value in dataclasses.asdict(config).items()}
    del values["folded"]
    return {"model_type": config.native_type, **values, **{name: value for name, (value, _) in family.fixed.items()}}


def _find_family(values: Mapping[str, Any]) -> tuple[Family, dict[str, Any]]:
    """The family that `values` are of, and what its `adapt` makes of them."""
    model_type = values.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        known = ", ".join(map(repr, FAMILIES))
        raise UserError(f"model_type is {model_type!r:.100}, expected {known}, or a classifier's 'amsdff'")
    decodes = values.get("is_decoder", False)
    require(not decodes, "is_decoder", decodes, "false; a decoder's tokens see those before them alone")
    adapted = family.adapt(dict(values))
    for name, (expected, default) in family.fixed.items():
        if adapted.get(name, default) != expected:
            raise UserError(f"{name} is {adapted.get(name, default)!r:.100}; only {expected!r} is supported")
    return family, adapted
