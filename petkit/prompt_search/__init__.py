"""Prompt search."""
