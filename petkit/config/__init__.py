"""Pipeline, pattern and verbalizer files, read and checked: the schema with every default, the rules between values, the names of
the registries. This package knows only what is written in a file. It loads no data and no model, and needs no torch; what
depends on these is checked in ``petkit.task``.
"""
