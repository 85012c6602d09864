"""Corpora, readers, splits, sampling and collators."""
