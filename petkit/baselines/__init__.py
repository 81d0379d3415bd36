"""Other classifiers from the same labelled rows: one module each, and a registry by name.

Each scores the test rows; comparing them with the student is :mod:`petkit.metrics`, running them as steps
:mod:`petkit.stages.baselines`.
"""
