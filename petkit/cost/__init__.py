"""Estimates before a run begins: time, memory and disk of every step, from the sizes of models and rows and from a short timing.
Nothing here changes how a run is carried out; ``petkit.stages.pipeline`` refuses a run for which the disk is too small.
"""
