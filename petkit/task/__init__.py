"""From data rows to cloze questions: rows, patterns, label words, token ids. No tensors here."""
