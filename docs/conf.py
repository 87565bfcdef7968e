"""Sphinx configuration. Build with ``.ci/run docs``; warnings are errors."""

import inspect as _inspect
from importlib import import_module as _import_module
from importlib.metadata import version as _version

project = "pend_storage"
author = "The pend_storage maintainers"
copyright = "2026, the pend_storage maintainers"
release = _version("pend_storage")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "pend_storage"
exclude_patterns = ["_build", "examples"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
myst_ref_domains = ["std"]  # "#validate" is a place on a page, not a method
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # else a page shows the variables of who built it
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
# Types of the standard library and of other packages have no page here: inventories of
# other projects are fetched over the network, which a build must not need.
nitpick_ignore_regex = [("py:.*", r".*")]

# The API page shows these functions, not the modules of the same names.
_package = _import_module("pend_storage")
for _name in ("collection", "records"):
    _import_module(f"pend_storage.{_name}")
    setattr(_package, _name, _inspect.unwrap(getattr(_package, _name)))
