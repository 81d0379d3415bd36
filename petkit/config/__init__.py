"""Pipeline, pattern and verbalizer files, read and checked: the schema with every default, the rules between values, and names.
This package knows only what is written in a file, and needs no torch; what depends on data or a model is checked in ``petkit.task``.
"""
