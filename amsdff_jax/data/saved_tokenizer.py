"""A tokenizer that is read without transformers, whose import takes longer than that of JAX: 1.1 of 2.7 seconds."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import tokenizers

from amsdff_jax.base.files import read_json, write_json

DEFINITION, SETTINGS = "tokenizer.json", "tokenizer_config.json"


class SavedTokenizer:
    """What this package asks of a tokenizer, under the names of transformers' `PreTrainedTokenizerFast`.

    Attributes:
      backend_tokenizer: that of the library tokenizers, which does the work.
      settings: what `tokenizer_config.json` says.
      truncation_side: "right", or "left" where the last tokens of a long text are read.
      split_special_tokens: whether `[SEP]` in a text is letters, and not the token.
      pad_token, unk_token, cls_token, sep_token: None: there is none.
    """

    def __init__(self, backend_tokenizer: tokenizers.Tokenizer, settings: dict[str, Any]):
        self.backend_tokenizer, self.settings = backend_tokenizer, settings
        self.truncation_side: str = settings.get("truncation_side", "right")
        self.split_special_tokens: bool = settings.get("split_special_tokens", False)
        self.pad_token, self.unk_token, self.cls_token, self.sep_token = (
            _content(settings.get(f"{name}_token")) for name in ("pad", "unk", "cls", "sep")
        )

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
        named = (found.pad_token, found.unk_token, found.cls_token, found.sep_token)
        known = all(token is None or found.backend_tokenizer.token_to_id(token) is not None for token in named)
        plain = found.truncation_side in ("left", "right") and isinstance(found.split_special_tokens, bool)
        return found if "tokenizer_class" in settings and found.pad_token is not None and known and plain else None

    @property
    def pad_token_id(self) -> int | None:
        """What fills a row up."""
        return self._id(self.pad_token)

    @property
    def unk_token_id(self) -> int | None:
        """What stands for words that the vocabulary lacks."""
        return self._id(self.unk_token)

    @property
    def cls_token_id(self) -> int | None:
        """What begins a text."""
        return self._id(self.cls_token)

    @property
    def sep_token_id(self) -> int | None:
        """What ends a text."""
        return self._id(self.sep_token)

    def save_pretrained(self, folder: Path) -> None:
        """Writes the files again that it was read from; raises `OSError`."""
        write_json(folder / SETTINGS, self.settings)
        self.backend_tokenizer.save(str(folder / DEFINITION))

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self.backend_tokenizer.token_to_id(token)


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    Tokenizer: TypeAlias = PreTrainedTokenizerFast | SavedTokenizer
else:  # transformers would have to be imported
    Tokenizer = Any


def _content(token: Any) -> str | None:
    """A special token, which transformers writes by itself or as an object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None
