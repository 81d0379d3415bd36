"""Checks of model and adapter folders before anything is built from them: file formats, links, indexes, sizes, NaN weights,
vocabularies. Loading itself is in ``petkit.models.loading``; ``SECURITY.md`` lists what these checks protect from.
"""
