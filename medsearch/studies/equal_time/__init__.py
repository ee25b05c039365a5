"""A search beside hand-made networks that are given the same wall-clock time: ``python -m medsearch.studies.equal_time``.

Every row is measured in a fresh process on one pinned core, and appended to a file as it ends; a page of Markdown is
written from the rows alone.
"""
