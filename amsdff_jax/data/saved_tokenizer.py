"""A tokenizer that is read without transformers, whose import takes longer than that of JAX: 1.1 of 2.7 seconds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import tokenizers

from amsdff_jax.base.files import read_json, write_json

DEFINITION, SETTINGS = "tokenizer.json", "tokenizer_config.json"
SPECIAL = ("pad_token", "unk_token", "cls_token", "sep_token")


class SavedTokenizer:
    """What this package asks of a tokenizer, under the names of transformers' `PreTrainedTokenizerFast`.

    Attributes:
      backend_tokenizer: that of the library tokenizers, which does the work.
      settings: what `tokenizer_config.json` says.
      truncation_side: "right", or "left" where the last tokens of a long text are read.
      split_special_tokens: whether `[SEP]` in a text is letters, and not the token.
      pad_token: what fills a row up; None: there is none.
      pad_token_id, unk_token_id, cls_token_id, sep_token_id: None: there is no such token.
    """

    def __init__(self, backend_tokenizer: tokenizers.Tokenizer, settings: dict[str, Any]):
        self.backend_tokenizer, self.settings = backend_tokenizer, settings
        self.truncation_side: str = settings.get("truncation_side", "right")
        self.split_special_tokens: bool = settings.get("split_special_tokens", False)
        self.pad_token = _content(settings, "pad_token")
        self.pad_token_id, self.unk_token_id, self.cls_token_id, self.sep_token_id = map(self._id, SPECIAL)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The tokenizer that transformers saved in a folder; None where its files do not tell it by themselves.

        Raises:
          UserError: `tokenizer_config.json` is damaged.
          Exception: as the library tokenizers says that `tokenizer.json` is.
        """
        if not all((folder / name).exists() for name in (DEFINITION, SETTINGS)):
            return None
        settings = read_json(folder / SETTINGS, "a tokenizer's configuration")
        found = cls(tokenizers.Tokenizer.from_file(str(folder / DEFINITION)), settings)
        known = all(_content(settings, name) is None or found._id(name) is not None for name in SPECIAL)
        plain = found.truncation_side in ("left", "right") and isinstance(found.split_special_tokens, bool)
        return found if "tokenizer_class" in settings and found.pad_token is not None and known and plain else None

    def save_pretrained(self, folder: Path) -> None:
        """Writes the files again that it was read from; raises `OSError`."""
        write_json(folder / SETTINGS, self.settings)
        self.backend_tokenizer.save(str(folder / DEFINITION))

    def _id(self, name: str) -> int | None:
        token = _content(self.settings, name)
        return None if token is None else self.backend_tokenizer.token_to_id(token)


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    Tokenizer: TypeAlias = PreTrainedTokenizerFast | SavedTokenizer
else:  # transformers would have to be imported
    Tokenizer = Any


def _content(settings: dict[str, Any], name: str) -> str | None:
    """A special token, which transformers writes by itself or as an object."""
    token = settings.get(name)
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
