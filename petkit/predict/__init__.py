"""A finished classifier in use: the Predictor of a run or model folder, rows in, labels out; changes no run folder."""
