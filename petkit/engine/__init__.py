"""How any model is trained and applied, whichever stage it belongs to: device and precision, the training loop and its state,
batches drawn by a seed, inference. What is trained is not known here: objectives belong to ``petkit.teachers``,
``petkit.student`` and ``petkit.pretraining``, models to ``petkit.models``, and steps of a run to ``petkit.runs``.
"""
