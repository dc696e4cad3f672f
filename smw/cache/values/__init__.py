"""How a value is kept: as bytes that open only where they belong, or in memory where no caller can change it."""
