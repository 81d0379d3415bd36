"""The outline of the method: A trains teachers, B combines them to soft labels, C distils a student; evaluation and baselines follow.

Read ``pipeline`` first. A stage plans steps and publishes their results in the run folder, the only place where stages meet.
"""
