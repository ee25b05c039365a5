"""``python -m medsearch.studies.equal_time``: a search beside hand-made networks given the same wall-clock time.

Every row is measured in a fresh process on one pinned core, and appended to a file as it ends; a page of Markdown is
written from the rows alone.
"""
