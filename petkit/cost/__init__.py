"""Estimates of time, memory and disk before a run begins; ``petkit.stages.pipeline`` refuses a run whose disk is too small."""
