"""Prompts found from data: label words by likelihood ratio on the labelled rows (PETAL, Schick et al. 2020), and patterns ranked
without a development set. The results are steps of a run that name the teachers; training these is in ``petkit.teachers``.
"""
