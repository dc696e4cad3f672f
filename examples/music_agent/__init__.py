"""A music service whose functions carry all eight decorators, and a demo that replays traffic through it."""
