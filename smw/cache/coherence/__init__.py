"""Nothing old after a drop: fences, debts, messages between processes, transactions, dependencies."""
