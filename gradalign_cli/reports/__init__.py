"""Reports: a pure function of run folders, from reading to tables, figures and a page."""
