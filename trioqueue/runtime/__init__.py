"""The tasks of a pod: supervisor, workers, receiver, and what a handler sees."""
