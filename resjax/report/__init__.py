"""Reports: verdicts, tables, figures and a page, made from directories of runs."""
