"""One model of stage A: a language model that answers one pattern, trained on rows of given labels, scoring others, saved and loaded;
and the labels that iPET adds. How several are combined is in ``petkit.ensemble``; which are trained in a run, and when, in
``petkit.stages.a_teachers``.
"""
