"""Measurements. Every figure is a ratio taken within one run; see README.md."""
