"""Results as people read them: live view, tables, plots, a Markdown page.  Works on plain data, needs no torch."""
