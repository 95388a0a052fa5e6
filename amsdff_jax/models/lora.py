"""LoRA: an encoder's weights stay as they are, and small matrices beside chosen projections learn what to add.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021. Names, start and scale are those of Hugging
Face's `peft`.
"""

from flax import nnx
from jaxtyping import Array, Float

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import ModelConfig
from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.encoders.blocks import Encoder
from amsdff_jax.models.layers import Linear, torch_conv_uniform
from amsdff_jax.models.shapes import Seed

# What `model.lora_targets` is by default: peft's choice, the projections of queries and values, for the families that
# it has one for, and the same parts of the others. ModernBERT has all three in one.
DEFAULT_TARGETS = {
    "distilbert": ("q_lin", "v_lin"),
    "roberta": ("query", "value"),
    "electra": ("query", "value"),
    "mpnet": ("q", "v"),
    "modernbert": ("Wqkv",),
    "deberta-v2": ("query_proj", "value_proj"),
}


class LoRALinear(Linear):
    """A dense layer with an adapter: y = x W + b + dropout(x) A B alpha / rank, A being `lora_A` and B `lora_B`.

    The adapter's product stands beside that of the weights, and not A B in them, because it has a dropout of its own,
    and because no gradient of the size of W is computed then. (`nnx.LoRA` has neither dropout nor scale.)
    """

    def __init__(self, base: Linear, config: ModelConfig, *, rngs: nnx.Rngs):
        """Puts an adapter beside `base`, whose weights are shared; B is 0, so that nothing changes at first."""
        self.kernel, self.bias = base.kernel, base.bias
        self.in_features, self.out_features, self.dtype = base.in_features, base.out_features, base.dtype
        rank, layer = config.lora_rank, {"use_bias": False, "dtype": base.dtype, "rngs": rngs}
        # PyTorch's default for dense layers, too.
        init = torch_conv_uniform(fan_in=base.in_features)
        self.lora_dropout = Dropout(config.lora_dropout)
        self.lora_A = Linear(base.in_features, rank, kernel_init=init, **layer)
        self.lora_B = Linear(rank, base.out_features, kernel_init=nnx.initializers.zeros, **layer)
        self.scale = config.lora_alpha / rank

    def __call__(self, x: Float[Array, "*rows I"], seed: Seed | None = None) -> Float[Array, "*rows O"]:
        """See the base class."""
        return super().__call__(x) + self.scale * self.lora_B(self.lora_A(self.lora_dropout(x, seed)))


def lora_targets(config: ModelConfig, model_type: str) -> tuple[str, ...]:
    """The projections that get adapters, by the ends of their PyTorch names."""
    return config.lora_targets or DEFAULT_TARGETS[model_type]


def add_adapters(encoder: Encoder, config: ModelConfig, *, rngs: nnx.Rngs) -> None:
    """Puts adapters beside the projections of an encoder that `config` chooses, if it gives them a rank.

    Raises:
      UserError: a target that is no projection of this encoder.
    """
    if not config.lora_rank:
        return
    parents = {
        (*path, name): module
        for path, module in nnx.iter_modules(encoder)
        for name, child in vars(module).items()
        if type(child) is Linear
    }
    names = {".".join(map(str, path)): path for path in parents}
    for target in lora_targets(config, encoder.config.model_type):
        found = [path for name, path in names.items() if f".{name}".endswith(f".{target}")]
        if not found:
            there = ", ".join(dict.fromkeys(name.rsplit(".", 1)[-1] for name in names))
            raise UserError(f"model.lora_targets: this encoder has no projection {target!r}; there are {there}")
        for path in found:
            base = getattr(parents[path], path[-1])
            if type(base) is Linear:  # two targets may be ends of one name
                setattr(parents[path], path[-1], LoRALinear(base, config, rngs=rngs))


def is_adapter(name: str) -> bool:
    """Whether a parameter of this PyTorch name belongs to an adapter."""
    return ".lora_A." in name or ".lora_B." in name


def is_new(name: str) -> bool:
    """Whether a parameter of this PyTorch name was not pretrained: it stands after the encoder, or is an adapter's."""
    return is_adapter(name) or not name.startswith("transformer.")
