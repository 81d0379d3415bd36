"""A checked task, as every stage uses it: :class:`petkit.task.task.Task` is built only when the checks find no problem."""
