"""Audit log and compliance controls."""
