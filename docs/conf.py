"""Settings of the site: `sphinx-build -W -c docs . docs/_build` builds it, without a network.

Its sources are the Markdown files of the repository, where they lie: one link works on a forge and in the site.
"""

from adaptsr import __version__

project = "adaptsr"
release = version = __version__
copyright = "the adaptsr authors"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxarg.ext"]
root_doc = "docs/index"
include_patterns = ["*.md", "*/README.md", "docs/**.md"]
# Folders that hold no page need not be searched; runs and data may be many files.
exclude_patterns = [".*", "docs/_build", "tests", "resources", "results/[!R]*", "reports/[!R]*"]

myst_heading_anchors = 3  # headings have the anchors that forges give them
highlight_language = "text"
default_role = "code"  # docstrings write `name` as Markdown does
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # as written: a default may be a path of this machine
python_maximum_signature_line_length = 100

html_theme = "pydata_sphinx_theme"
html_title = "adaptsr"
html_extra_path = ["root"]  # the site's first address leads to its root page
html_show_sourcelink = False
# Pages of the first level have no others below them to list, but for the reference.
alone = ["[A-Z]*", "docs/tutorials/*", "docs/concepts", "docs/results", "docs/performance", "docs/reliability"]
html_sidebars = {page: [] for page in alone}
html_theme_options = {"header_links_before_dropdown": 8, "navbar_persistent": ["search-button"], "show_toc_level": 2}
