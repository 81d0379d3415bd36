"""What a person takes away: predictions."""
