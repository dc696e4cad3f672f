"""The decorators outside of web applications: a script, event loops, threads, processes, Celery, RQ."""
