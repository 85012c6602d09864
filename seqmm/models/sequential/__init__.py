"""Sequential models. One paper, one file."""
