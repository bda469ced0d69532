"""Reports: tables, figures and a page, from the directories of runs."""
