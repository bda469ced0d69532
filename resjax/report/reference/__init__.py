"""Figures that papers report."""
