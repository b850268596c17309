"""The tasks, one folder each. No other module imports them: the files in `conf/task/` name their classes."""
