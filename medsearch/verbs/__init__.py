"""What the command line can do, one file a verb: each brings the rooms together and returns plain results."""
