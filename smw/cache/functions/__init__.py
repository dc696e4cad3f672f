"""What the decorators add to a function, and the functions that one cache knows."""
