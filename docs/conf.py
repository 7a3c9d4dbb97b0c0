"""Settings of the site: `sphinx-build -W -c docs . docs/_build` builds it, without a network.

Its sources are the Markdown files of the repository, where they lie: one link works on a forge and in the site.
"""

import shutil

from adaptsr import __version__

project = "adaptsr"
release = version = __version__
copyright = "the adaptsr authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxarg.ext"]
root_doc = "docs/index"
include_patterns = ["*.md", "*/README.md", "docs/**.md"]
# Folders that hold no page need not be searched; runs and data may be many files.
exclude_patterns = [".*", "docs/_build", "tests", "resources", "results/[!R]*", "reports/[!R]*"]

myst_heading_anchors = 3  # the anchors of headings, named as forges name them
highlight_language = "text"
default_role = "code"  # docstrings write `name` as Markdown does
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False

html_theme = "pydata_sphinx_theme"
html_title = f"adaptsr {release}"
