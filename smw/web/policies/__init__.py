"""The policies of the web adapter, one module each; they know an exchange and a runtime, no protocol."""
