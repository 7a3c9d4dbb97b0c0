"""Reports. In: records and scores. Out: tables, comparisons, figures and a page."""
