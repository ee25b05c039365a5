"""One job from what was asked to plain results: a search, a compression, an export, a check."""
