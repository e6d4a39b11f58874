"""Settings of the documentation: `sphinx-build -W docs build/docs`."""

import re
from importlib.metadata import version as version_of

from sphinx.application import Sphinx

project = "dnc_jax"
author = "the authors of dnc_jax"
copyright = author
version = release = version_of("dnc_jax")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["build"]
html_theme = "furo"
html_title = "dnc_jax"
nitpicky = False

# Notebooks hold the outputs of the run that the tests repeat.
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
default_role = "code"

CODE = re.compile(r"(`[^`]*`)")


def escape(_app: object, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Keeps plain text plain: |x| and a * b are mathematics in docstrings, no markup."""
    for number, line in enumerate(lines):
        parts = CODE.split(line)
        parts[::2] = [re.sub(r"([|*])|(?<=\w)(_)(?=\W|$)", r"\\\1\2", part) for part in parts[::2]]
        lines[number] = "".join(parts)


def skip(_app: object, _what: str, name: str, _obj: object, skip: bool, _options: object) -> bool:
    """Leaves out what scikit-learn adds to estimators."""
    return skip or bool(re.fullmatch(r"set_\w+_request|get_metadata_routing", name))


def shorten(
    _app: object,
    _what: str,
    _name: str,
    _obj: object,
    _options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """Calls an array by its public name in annotations of shapes."""
    private, public = "jaxlib._jax.Array", "Array"
    return signature and signature.replace(private, public), returned and returned.replace(private, public)


def setup(app: Sphinx) -> None:
    """Connects them; escaping runs before napoleon reads the sections."""
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", escape, priority=100)
