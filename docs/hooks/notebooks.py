"""Makes a page of every notebook, with the outputs that are saved in it."""

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter


def on_files(files, config):
    """Puts a page of Markdown in the place of each notebook."""
    return Files([_page(file, config) if file.src_uri.endswith(".ipynb") else file for file in files])


def _page(file: File, config) -> File:
    notebook = nbformat.read(file.abs_src_path, as_version=4)
    text, _ = MarkdownExporter().from_notebook_node(notebook)
    return File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=text)
