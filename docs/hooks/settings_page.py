"""Makes the page of all settings out of the code: names, defaults, and the comment beside each field."""

import dataclasses
import inspect
import io
import tokenize

from mkdocs.structure.files import File

from amsdff_jax.config import Config


def on_files(files, config):
    """Adds the page to those that MkDocs has found."""
    files.append(File.generated(config, "settings.md", content=settings_page()))
    return files


def on_page_markdown(markdown, **_):
    """Links to that page, which lead to the code where the page has not been made."""
    return markdown.replace("](../amsdff_jax/config/__init__.py)", "](settings.md)")


def settings_page() -> str:
    """The page in Markdown."""
    sections = "\n".join(
        f"## {field.name}\n\n{field.default_factory.__doc__.strip()}\n\n{_table(field.name, field.default_factory)}"
        for field in dataclasses.fields(Config)
        if dataclasses.is_dataclass(field.default_factory)
    )
    return f"""# Settings

Every setting is a flag of `amsdff train`, such as `--config.train.epochs=3`, a field of a config in Python, JSON or
YAML, and of `amsdff_jax.Config`. An empty string, an empty tuple or 0 stands for "not given". `seed` (0) is that of
initialization, dropout and data order.

{sections}"""


def _table(section: str, kind: type) -> str:
    comments = _comments(kind)
    rows = [
        f"| `{section}.{field.name}` | `{field.default!r}` | {comments.get(field.name, '')} |"
        for field in dataclasses.fields(kind)
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows, ""])


def _comments(kind: type) -> dict[str, str]:
    """What is said of each field, above or behind it, as Markdown."""
    comments, name, above = {}, "", []
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(kind)).readline):
        text = token.string.lstrip("# ").replace("|", "\\|")
        if token.type == tokenize.NAME and token.start[1] == 4:
            name = token.string
            if above:
                comments[name], above = " ".join(above), []
        elif token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            above.append(text)
        elif token.type == tokenize.COMMENT and name:
            comments[name] = f"{comments[name]} {text}" if name in comments else text
    return comments
