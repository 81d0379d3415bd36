"""What a person looks at: metrics, checks, reports."""
