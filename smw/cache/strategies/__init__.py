"""Writes through, around and behind the cache, and the journal of those that are acknowledged."""
