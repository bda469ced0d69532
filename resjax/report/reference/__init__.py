"""Figures published in papers, to compare runs with."""
