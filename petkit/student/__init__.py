"""The one model of stage C: a sequence classifier, its objective on soft labels and labelled rows, and reading the soft labels.
The step that trains and publishes it is ``petkit.stages.c_student``; predicting with it is in ``petkit.predict``.
"""
