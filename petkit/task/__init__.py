"""A checked task: labels, rows, compiled patterns and the list of teachers, as every stage uses them.

:class:`petkit.task.task.Task` is built only when the checks in ``checks`` and ``model_checks`` find no problem. Training, scoring
and the run folder are not here.
"""
