"""Collaborative filtering and graph models. One paper, one file."""
