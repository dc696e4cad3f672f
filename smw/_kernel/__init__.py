"""The kernel: one wrapper per function with an ordered chain of advices; knows none of the four parts."""
