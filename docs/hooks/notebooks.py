"""Makes a page of every notebook, with the outputs that are saved in it."""

import re

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter


def on_files(files, config):
    """Puts a page of Markdown in the place of each notebook."""
    return Files([_page(file, config) if file.src_uri.endswith(".ipynb") else file for file in files])


def on_page_markdown(markdown, **_):
    """Lets links to a notebook, as they work in a clone, lead to its page."""
    return re.sub(r"(\]\([^)\s:]+)\.ipynb\)", r"\1.md)", markdown)


def _page(file: File, config) -> File:
    notebook = nbformat.read(file.abs_src_path, as_version=4)
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    return File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=text)
