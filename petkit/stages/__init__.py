"""The three stages of PET. Read ``pipeline`` first: it is the whole method."""
