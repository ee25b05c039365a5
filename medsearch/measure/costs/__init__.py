"""What a genotype costs before anything of it is trained, and how it can be trained within a limit."""
