"""Runs on disk: their files, claims, checkpoints and weights."""
