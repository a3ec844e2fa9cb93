"""From a study to finished cells: tasks, windows, spool, cell files, resume, estimate."""
