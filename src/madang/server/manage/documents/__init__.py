"""What the API takes and answers with, one file per route group. Sizes are in bytes, times in UTC; null is unknown."""
