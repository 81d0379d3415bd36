"""The one model of stage C: a sequence classifier, its objective on soft and gold labels, its training and its folder."""
