"""medsearch: search, compress and export hybrid medical vision backbones under hard budgets."""

__version__ = "0.1.0"
