"""A finished classifier in use: the Predictor of a run or model folder, rows in, labels out, and the evaluation of a file. Nothing
here trains or changes a run folder. How logits become decisions is in ``petkit.metrics``, how teachers are combined in
``petkit.ensemble``.
"""
