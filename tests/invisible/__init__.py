"""Other projects' own test suites, run with smw around every application and without: `python -m tests.invisible`.

The suite of the installed version comes from its sdist. It runs once as it is and once for every way of putting smw
there; each test has to end as it does without. A difference is a failure, unless `accepted` says why users want it.
"""
