"""How the pages are built, without a network: `sphinx-build -W docs build/docs`."""

import re

import flax.linen as nn

import resjax

project = "resjax"
author = copyright = "The resjax authors"
version = release = resjax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
suppress_warnings = ["ref.python"]  # a field of two classes may have one name

# A docstring is written like a comment: one backtick is code.
default_role = "literal"
smartquotes = False

autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "special-members": "__call__",
    "exclude-members": "dtype, param_dtype, setup",  # aliases of a class; what Flax says of it
}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["ray", "tensorflow", "torch", "wandb"]  # extras
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False
RETURNED = "Returned arrays"
napoleon_custom_sections = [(RETURNED, "params_style")]
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

myst_heading_anchors = 3

html_theme = "furo"
html_title = "resjax"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "native"


VALUES = ("data", "attribute", "property")

values: dict[str, list[str]] = {}
"""Their docstrings, in which napoleon would take what is before a colon for a type."""


def _in_rst(app, what, name, obj, options, lines):
    """Bars of a norm are no substitutions, and several arrays that are returned are a list."""
    lines[:] = [re.sub(r"(`[^`]*`)|[|]", lambda found: found[1] or r"\|", line) for line in lines]
    for number, line in enumerate(lines[:-1]):
        if line.strip() == "Returns:" and re.match(r"\s+\w[\w, ]*: ", lines[number + 1]):
            lines[number] = line.replace("Returns", RETURNED)
    if what in VALUES:
        values[name] = list(lines)
        # Tables hold functions, whose addresses say nothing; that of all keys is a page of its own.
        options.no_value = True if "<" in repr(obj) or name == "resjax.config.keys.KEYS" else None


def _after_napoleon(app, what, name, obj, options, lines):
    lines[:] = values.pop(name, lines)


def _signature(app, what, name, obj, options, signature, returned):
    """That of a Flax module has fields of Flax; its own are in the docstring."""
    return ("()", None) if what == "class" and issubclass(obj, nn.Module) else None


navigation: dict[int, str] = {}
"""That of the pages of source code, by how deep they are: the same for all, and long to make."""


def _with_shared_navigation(app, page, template, context, doctree):
    if not page.startswith("_modules/"):
        return
    depth, make = page.count("/"), context["toctree"]

    def toctree(**options):
        if depth not in navigation:
            navigation[depth] = make(**options)
        return navigation[depth]

    context["toctree"] = toctree


def setup(app):
    """What Sphinx calls."""
    app.connect("html-page-context", _with_shared_navigation, priority=400)
    app.connect("autodoc-process-docstring", _in_rst, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    app.connect("autodoc-process-signature", _signature)
