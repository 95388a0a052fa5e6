"""The classifiers in PyTorch, as models of transformers, with the state dicts that model folders hold.

Stands by itself, because model folders and exports for PyTorch carry this very file: it needs torch and
transformers, and nothing of this project. The encoder is transformers' own class for its family.
`attention_mask` is [B,S], 1 on real tokens, everywhere.
"""

import dataclasses
import math
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

CNN_WIDTHS = (3, 4, 5)
CNN_FILTERS = 100

SMALLEST_STEP = 1e-6  # between the thresholds of ordered classes

# Encoders whose positions are those of the real tokens alone, from `pad_token_id` + 1 on.
COUNTS_AFTER_PADDING = ("roberta", "mpnet")

# Of a model folder that was written before parts could be left out, and classes be ordered.
ALL_PARTS = {"multi_scale": True, "fusion": True, "pools": ["attention", "query", "max"], "ordinal": False}
FORMER_PART = ("model", "encoder", "max_length")  # which once stood beside `amsdff`, as they do in exports

# Of the head `bert`, by transformers' name of its family.
POOLER_ACTIVATIONS = {
    **dict.fromkeys(("bert", "roberta", "mpnet"), torch.tanh),
    **dict.fromkeys(("electra", "modernbert", "deberta-v2"), functional.gelu),
    "distilbert": torch.relu,
}
DROPS_BEFORE_POOLER = ("roberta", "electra", "mpnet")


class AmsdffConfig(PretrainedConfig):
    """What `config.json` of a model folder says.

    Attributes:
      amsdff: its own part: `model`, shape and padding semantics; `encoder`, sizes; `max_length` in tokens.
    """

    model_type = "amsdff"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        *("pooled_features", "encoder_output", "sequence_features", "multi_scale_features", "enhanced_features"),
        *("token_attention", "expert_gates", "cls_attention"),
    ]

    def __init__(self, amsdff: dict[str, Any] | None = None, **values: Any):
        self.amsdff = amsdff or {name: values.pop(name) for name in FORMER_PART if name in values}
        super().__init__(**values)

    @property
    def model(self) -> SimpleNamespace:
        """The fields of `ModelConfig`."""
        return SimpleNamespace(**ALL_PARTS | self.amsdff["model"])


# Which files are meant where a name is one on the hub.
HUB_OPTIONS = ("token", "revision", "subfolder", "cache_dir", "local_files_only", "force_download", "proxies")


@dataclasses.dataclass
class TorchOutput(ModelOutput):
    """What `AMSDFFOutput` holds, as tensors, and the cross-entropy if there were labels; a baseline fills in three."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor = None  # pyright: ignore[reportAssignmentType]
    pooled_features: torch.Tensor | None = None
    encoder_output: torch.Tensor | None = None
    sequence_features: torch.Tensor | None = None
    multi_scale_features: torch.Tensor | None = None
    enhanced_features: torch.Tensor | None = None
    token_attention: torch.Tensor | None = None
    expert_gates: torch.Tensor | None = None
    cls_attention: torch.Tensor | None = None


class TorchClassifier(PreTrainedModel):
    """A classifier on an encoder, with random weights, of the kind that its configuration names.

    Attributes:
      config: labels, shape and padding semantics.
      transformer: the encoder.
    """

    config_class = AmsdffConfig
    base_model_prefix = "transformer"
    accepts_loss_kwargs = False  # or transformers' Trainer would leave it to the loss to be divided by its accumulation

    def __new__(cls, config: AmsdffConfig | None = None, **_: Any) -> "TorchClassifier":
        """An object of that kind: in one process transformers knows one class for one class of configurations."""
        kind: Any = TORCH_MODELS[config.model.name] if cls is TorchClassifier and config else cls
        return super().__new__(kind)

    def __init__(self, config: AmsdffConfig):
        super().__init__(config)
        self.transformer = make_encoder(**config.amsdff["encoder"])
        self.mask_padding = config.model.mask_padding

    @classmethod
    def from_pretrained(cls, folder: Any, *arguments: Any, **options: Any) -> Any:
        """The classifier in a model folder, of whatever kind it is, in eval mode.

        Args:
          folder: the folder, or its name on the Hugging Face hub.
          *arguments: as for transformers' models.
          **options: likewise.

        Raises:
          OSError, KeyError, ValueError, RuntimeError: the folder is missing, incomplete or damaged.
        """
        if cls is TorchClassifier and "config" not in options:
            of_the_hub = {name: options[name] for name in HUB_OPTIONS if name in options}
            values, _ = PretrainedConfig.get_config_dict(folder, **of_the_hub)
            if "encoder" not in values.get("amsdff", values):  # a model of transformers as it stands
                return AutoModelForSequenceClassification.from_pretrained(folder, *arguments, **options)
        wants_report = options.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(folder, *arguments, output_loading_info=True, **options)
        model, report = loaded
        # transformers warns of these alone, and a random layer gives answers too.
        wrong = [*report["missing_keys"], *report["unexpected_keys"]]
        if wrong:
            raise ValueError(f"{folder}: the weights do not fit the model, because of {', '.join(sorted(wrong)[:8])}")
        return (model, report) if wants_report else model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **_: Any,
    ) -> TorchOutput:
        """Classifies [B,S] token ids.

        A model that sees padding (reference semantics) and knows its `max_length` pads up to it by itself.

        Args:
          input_ids: numbers of tokens.
          attention_mask: None: all tokens are real.
          labels: for the loss; [B] numbers of classes, or [B,C] of 0 and 1 where a text may have several;
            or [B] numbers, in the unit of the answers.
        """
        present: Any = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        missing = self.config.amsdff.get("max_length", 0) - input_ids.shape[1]
        if not self.mask_padding and missing > 0:
            padding: Any = self.transformer.config.pad_token_id
            input_ids = functional.pad(input_ids, (0, missing), value=padding)
            present = functional.pad(present, (0, missing))
        encoder_output, mask = self.encode(input_ids, present)
        output = self.classify(encoder_output, mask, present.bool())
        if labels is not None:
            if self.config.problem_type == "multi_label_classification":
                output.loss = functional.binary_cross_entropy_with_logits(output.logits, labels.float())
            elif self.config.problem_type == "regression":
                output.loss = functional.mse_loss(output.logits.squeeze(-1), labels.float())
            else:
                output.loss = functional.cross_entropy(output.logits, labels)
        return output

    def classify(self, encoder_output: torch.Tensor, mask: torch.Tensor, valid_mask: torch.Tensor) -> TorchOutput:
        """Everything after the encoder.

        Args:
          encoder_output: [B,S,H].
          mask: [B,S] bool, with at least one token in every text.
          valid_mask: the same as it was given.
        """
        raise NotImplementedError

    def encode(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B,S] -> [B,S,H], and the mask as [B,S] bool, in which a text without a token has its first position.

        Otherwise such a text would attend to nothing, and come out as NaN.
        """
        mask = attention_mask.bool()
        mask = mask | (~mask.any(dim=1, keepdim=True) & (torch.arange(mask.shape[1], device=mask.device) == 0))
        config: Any = self.transformer.config
        inputs = {"input_ids": input_ids, "attention_mask": mask.long()}
        if config.model_type in COUNTS_AFTER_PADDING:  # by the mask, and not by which tokens are called padding
            inputs["position_ids"] = mask.long().cumsum(dim=1) * mask + config.pad_token_id
        return self.transformer(**inputs).last_hidden_state, mask

    def complete(self) -> None:
        """The last line of every constructor."""
        initialize_new_layers(self)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: `complete` has done it."""


class EnhancedAMSDFF(TorchClassifier):
    """The AMSDFF classifier, with the gate as it was meant; see README.md for the published code's other faults."""

    def __init__(self, config: AmsdffConfig):
        super().__init__(config)
        fields, hidden = config.model, self.transformer.config.hidden_size
        first_rate, second_rate = fields.classifier_dropout_rates
        # In this order, which the state of PyTorch's optimizers counts by.
        self.multi_scale_attention = MultiScaleAttention(fields, hidden) if fields.multi_scale else None
        self.feature_enhancer = nn.Sequential(
            nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(fields.dropout_rate)
        )
        self.dynamic_fusion = DynamicFusion(fields, hidden) if fields.fusion else None
        self.pooling_strategy = PoolingStrategy(fields, hidden)
        self.classifier = nn.Sequential(
            *(nn.Linear(hidden, hidden // 2), nn.LayerNorm(hidden // 2), nn.GELU(), nn.Dropout(first_rate)),
            *(nn.Linear(hidden // 2, hidden // 4), nn.LayerNorm(hidden // 4), nn.GELU(), nn.Dropout(second_rate)),
            make_last_layer(hidden // 4, fields),
        )
        self.complete()

    def classify(self, encoder_output: torch.Tensor, mask: torch.Tensor, valid_mask: torch.Tensor) -> TorchOutput:
        """See the base class."""
        enhanced = multi_scale = self.feature_enhancer(encoder_output)
        if self.multi_scale_attention is not None:
            multi_scale = self.multi_scale_attention(enhanced, mask, valid_mask)
        sequence, gates = (multi_scale, None) if self.dynamic_fusion is None else self.dynamic_fusion(multi_scale, mask)
        pooled, token_attention, cls_attention = self.pooling_strategy(sequence, mask)
        features = (pooled, encoder_output, sequence, multi_scale, enhanced)
        return TorchOutput(None, self.classifier(pooled), *features, token_attention, gates, cls_attention)


class MultiScaleAttention(nn.Module):
    """Stage 3: convolutions of several widths, joined by self-attention, with a residual."""

    def __init__(self, config: Any, hidden: int):
        super().__init__()
        size = hidden // len(config.kernel_sizes)
        self.scale_convs: Any = nn.ModuleList(  # lists of three, as PyTorch's own types cannot say
            nn.ModuleList(
                [
                    nn.Conv1d(hidden, hidden, width, padding=width // 2, groups=hidden),
                    nn.Conv1d(hidden, size, 1),
                    nn.BatchNorm1d(size),
                ]
            )
            for width in config.kernel_sizes
        )
        self.scale_fusion = nn.MultiheadAttention(
            hidden, config.num_attention_heads, config.attention_dropout_rate, batch_first=True
        )
        self.output_projection = nn.Linear(hidden, hidden)
        self.layer_norm = nn.LayerNorm(hidden)
        self.mask_padding = config.mask_padding

    def forward(self, x: torch.Tensor, mask: torch.Tensor, valid_mask: torch.Tensor) -> torch.Tensor:
        """[B,S,H] -> [B,S,H]; BatchNorm's statistics are over `valid_mask`, in reference semantics over all."""
        if self.mask_padding:
            visible = x * valid_mask[..., None]
        else:
            visible, valid_mask = x, torch.ones_like(valid_mask)
        scales = []
        for depthwise, pointwise, batch_norm in self.scale_convs:
            convolved = pointwise(depthwise(visible.transpose(1, 2)))  # [B,H/K,S]
            if self.training:
                convolved = convolved.transpose(1, 2)
                normalized = torch.zeros_like(convolved)
                normalized[valid_mask] = batch_norm(convolved[valid_mask])
            else:
                normalized = batch_norm(convolved).transpose(1, 2)
            scales.append(functional.gelu(normalized))
        joined = torch.cat(scales, dim=-1)
        fused, _ = self.scale_fusion(joined, joined, joined, key_padding_mask=~mask, need_weights=False)
        return self.layer_norm(self.output_projection(fused) + x)

    def fold_batch_norm(self) -> None:
        """Takes each BatchNorm, as it is in eval mode, into the convolution before it: for inference only, for good."""
        for scale in self.scale_convs:
            scale[1], scale[2] = fuse_conv_bn_eval(scale[1], scale[2]), nn.Identity()


class DynamicFusion(nn.Module):
    """Stage 4: experts mixed by a gate that reads the mean of the tokens."""

    def __init__(self, config: Any, hidden: int):
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(config.expert_dropout_rate), nn.Linear(hidden, hidden)
            )
            for _ in range(config.num_experts)
        )
        self.gate = nn.Sequential(nn.Linear(hidden, config.num_experts), nn.Softmax(dim=-1))
        self.mask_padding = config.mask_padding

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[B,S,H] -> [B,S,H] and the gates [B,E]."""
        gates = self.gate(masked_mean(x, mask) if self.mask_padding else x.mean(dim=1))
        outputs = torch.stack([expert(x) for expert in self.experts], dim=2)  # [B,S,E,H]
        return (gates[:, None, :, None] * outputs).sum(dim=2), gates


class PoolingStrategy(nn.Module):
    """Stage 5: attention pool, learned query and maximum."""

    def __init__(self, config: Any, hidden: int):
        super().__init__()
        self.pools = config.pools
        if "query" in self.pools:
            self.cls_token = nn.Parameter(torch.randn(1, 1, hidden))
        if "attention" in self.pools:
            self.attention_pooling = attention_scores(hidden)
        if "query" in self.pools:
            self.cls_attention = nn.MultiheadAttention(
                hidden, config.num_attention_heads, config.attention_dropout_rate, batch_first=True
            )
        self.pooling_fusion = nn.Sequential(
            nn.Linear(len(self.pools) * hidden, hidden),
            nn.GELU(),
            nn.Dropout(config.pooling_dropout_rate),
            nn.Linear(hidden, hidden),
        )

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """[B,S,H] -> [B,H], the attention pool's weights [B,S], the learned query's [B,heads,S]."""
        pools, token_attention, cls_attention = [], None, None
        if "attention" in self.pools:
            pool, token_attention = attention_pooled(self.attention_pooling, x, mask)
            pools.append(pool)
        if "query" in self.pools:
            # `shape[0]`, because torch.export takes a `len` for a constant.
            query = self.cls_token.expand(x.shape[0], -1, -1)
            pool, cls_attention = self.cls_attention(query, x, x, key_padding_mask=~mask, average_attn_weights=False)
            pools.append(pool[:, 0])
            cls_attention = cls_attention[:, :, 0]
        if "max" in self.pools:
            pools.append(x.masked_fill(~mask[..., None], -math.inf).amax(dim=1))
        return self.pooling_fusion(torch.cat(pools, dim=-1)), token_attention, cls_attention


class CumulativeLogits(nn.Module):
    """Ordered classes by one score and the thresholds between them, the proportional-odds model.

    Attributes:
      weight: [1,F].
      thresholds: [C-1]; the first one, and what softplus makes a step of from each to the next.
    """

    def __init__(self, features: int, num_classes: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, features)))
        cumulative = torch.logit(torch.arange(1, num_classes) / num_classes)  # of equally likely classes
        self.thresholds = nn.Parameter(torch.cat([cumulative[:1], cumulative.diff().expm1().log()]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B,F] -> [B,C], the logarithms of the probabilities."""
        steps = functional.softplus(self.thresholds[1:]) + SMALLEST_STEP
        margins = torch.cat([self.thresholds[:1], steps]).cumsum(dim=0) - functional.linear(x, self.weight)
        below, above = functional.logsigmoid(margins), functional.logsigmoid(-margins)
        between = below[:, 1:] + above[:, :-1] + (-torch.expm1(-steps)).log()
        return torch.cat([below[:, :1], between, above[:, -1:]], dim=1)


def make_last_layer(features: int, config: Any) -> nn.Module:
    """From what is summed up of a text to its logits."""
    if config.ordinal:
        return CumulativeLogits(features, config.num_classes)
    return nn.Linear(features, config.num_classes)


class TorchBaseline(TorchClassifier):
    """Encoder, `pool`, dropout, `classifier`."""

    def __init__(self, config: AmsdffConfig):
        super().__init__(config)
        size = self.build(config.model, self.transformer.config.hidden_size)
        self.dropout = nn.Dropout(config.model.dropout_rate)
        self.classifier = make_last_layer(size, config.model)
        self.complete()

    def classify(self, encoder_output: torch.Tensor, mask: torch.Tensor, valid_mask: torch.Tensor) -> TorchOutput:
        """See the base class."""
        pooled = self.pool(encoder_output, mask)
        return TorchOutput(None, self.classifier(self.dropout(pooled)), pooled, encoder_output)

    def build(self, config: Any, hidden: int) -> int:
        """Makes the layers of `pool`; returns how many features it gives."""
        raise NotImplementedError

    def pool(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[B,S,H] and mask [B,S] -> [B,F]."""
        raise NotImplementedError


class RecurrentClassifier(TorchBaseline):
    """Two bidirectional layers, under the name of their cells."""

    network: ClassVar[type[nn.RNNBase]]

    def build(self, config: Any, hidden: int) -> int:
        """See the base class."""
        sizes = {"num_layers": 2, "bidirectional": True, "batch_first": True}
        network: Any = self.network
        self.add_module(network.__name__.lower(), network(hidden, hidden // 2, dropout=config.dropout_rate, **sizes))
        return 2 * (hidden // 2)

    def pool(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        network: Any = getattr(self, self.network.__name__.lower())
        sequence: Any = x
        if self.mask_padding:
            lengths = mask.sum(dim=1).cpu()
            sequence = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, states = network(sequence)
        last = states[0] if self.network is nn.LSTM else states
        return torch.cat([last[-2], last[-1]], dim=-1)


class LSTMClassifier(RecurrentClassifier):
    """Long short-term memory."""

    network = nn.LSTM


class GRUClassifier(RecurrentClassifier):
    """Gated recurrent units."""

    network = nn.GRU


class TransformerClassifier(TorchBaseline):
    """One more self-attention, the mean over the tokens, a dense layer with tanh."""

    def build(self, config: Any, hidden: int) -> int:
        """See the base class."""
        self.attention = nn.MultiheadAttention(
            hidden, config.num_attention_heads, config.attention_dropout_rate, batch_first=True
        )
        self.pooler = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh())
        return hidden

    def pool(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        attended, _ = self.attention(x, x, x, key_padding_mask=~mask, need_weights=False)
        return self.pooler(masked_mean(attended, mask))


class CNNClassifier(TorchBaseline):
    """Convolutions of widths 3, 4 and 5, ReLU, the maximum over the tokens."""

    def build(self, config: Any, hidden: int) -> int:
        """See the base class."""
        self.convs = nn.ModuleList(nn.Conv1d(hidden, CNN_FILTERS, width) for width in CNN_WIDTHS)
        return CNN_FILTERS * len(CNN_WIDTHS)

    def pool(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        if self.mask_padding:
            x = x * mask[..., None]
        missing = max(0, max(CNN_WIDTHS) - x.shape[1])
        x, mask = functional.pad(x, (0, 0, 0, missing)), functional.pad(mask, (0, missing))
        strongest = []
        for conv, width in zip(self.convs, CNN_WIDTHS, strict=True):
            activations = functional.relu(conv(x.transpose(1, 2)))  # [B,F,windows]
            if self.mask_padding:
                whole = mask[:, width - 1 :].clone()
                whole[:, 0] = True
                activations = activations * whole[:, None]
            strongest.append(activations.amax(dim=-1))
        return torch.cat(strongest, dim=-1)


class AttentionClassifier(TorchBaseline):
    """The attention pool alone."""

    def build(self, config: Any, hidden: int) -> int:
        """See the base class."""
        self.attention = attention_scores(hidden)
        return hidden

    def pool(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        return attention_pooled(self.attention, x, mask)[0]


class LinearClassifier(TorchBaseline):
    """The mean over the tokens alone."""

    def build(self, config: Any, hidden: int) -> int:
        """See the base class."""
        return hidden

    def pool(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        return masked_mean(x, mask)


class Pooler(nn.Module):
    """What transformers' class for sequence classification puts between a family's encoder and the last layer."""

    def __init__(self, dropout_rate: float, encoder: Any):
        super().__init__()
        kind, hidden = "bert" if getattr(encoder, "folded", False) else encoder.model_type, encoder.hidden_size
        has_norm = kind == "modernbert"
        self.dropout = nn.Dropout(dropout_rate if kind in DROPS_BEFORE_POOLER else 0.0)
        self.dense = nn.Linear(hidden, hidden, bias=not has_norm)
        self.LayerNorm = nn.LayerNorm(hidden, eps=encoder.norm_eps, bias=False) if has_norm else nn.Identity()
        self.activation = POOLER_ACTIVATIONS[kind]
        self.reads_mean = has_norm and encoder.classifier_pooling == "mean"

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """[B,S,H] -> [B,H], of the first token or of the mean."""
        pooled = masked_mean(x, mask) if self.reads_mean else x[:, 0]
        return self.LayerNorm(self.activation(self.dense(self.dropout(pooled))))


class BertClassifier(TorchBaseline):
    """The head of transformers' class for sequence classification."""

    def build(self, config: Any, hidden: int) -> int:
        """See the base class."""
        self.pooler = Pooler(config.dropout_rate, self.transformer.config)
        return hidden

    def pool(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the base class."""
        return self.pooler(x, mask)


TORCH_MODELS: dict[str, type[TorchClassifier]] = {
    "amsdff": EnhancedAMSDFF,
    "lstm": LSTMClassifier,
    "gru": GRUClassifier,
    "transformer": TransformerClassifier,
    "cnn": CNNClassifier,
    "attention": AttentionClassifier,
    "linear": LinearClassifier,
    "bert": BertClassifier,
}


def make_encoder(model_type: str = "distilbert", **sizes: Any) -> PreTrainedModel:
    """Transformers' encoder of a family, with random weights, without a pooler of its own.

    Args:
      **sizes: fields of its configuration there.
    """
    encoder = AutoModel.from_config(AutoConfig.for_model(model_type, **sizes))
    if hasattr(encoder, "pooler"):
        encoder.pooler = None
    return encoder


def initialize_new_layers(model: TorchClassifier) -> None:
    """Xavier-uniform with zero bias for every dense layer outside the encoder, and for packed projections."""
    for name, module in model.named_modules():
        if name.startswith("transformer."):
            continue
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.xavier_uniform_(module.in_proj_weight)


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of [B,S,H] over the tokens that `mask` [B,S] admits: [B,H]."""
    return (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def attention_scores(hidden: int) -> nn.Sequential:
    """The layers that score each token by itself: [B,S,H] -> [B,S,1]."""
    return nn.Sequential(nn.Linear(hidden, hidden // 2), nn.Tanh(), nn.Linear(hidden // 2, 1))


def attention_pooled(scores: nn.Sequential, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of [B,S,H] weighted by the softmax of the scores: [B,H] and the weights [B,S]."""
    weights = scores(x)[..., 0].masked_fill(~mask, -math.inf).softmax(dim=-1)
    return (weights[..., None] * x).sum(dim=1), weights
