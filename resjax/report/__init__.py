"""From the directories of runs to tables, figures and a page."""
