"""What operators and their machines ask of a running worker: is it alive, is it ready, what has it counted."""
