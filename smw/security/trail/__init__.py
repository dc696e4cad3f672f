"""The tamper-evident audit log: record, store, seal, verify; each in a module of its own."""
