"""Compliance controls: frameworks as data, rules, the data catalogue, and the engine that judges one call."""
