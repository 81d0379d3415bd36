"""The outline of the method: A trains teachers, B combines them to soft labels, C distils a student; then the evaluation and the
baselines. Read ``pipeline`` first. A stage plans steps and publishes their results in the run folder, the only place where
stages meet; how a single model is trained or scored is in ``petkit.teachers`` and ``petkit.student``.
"""
