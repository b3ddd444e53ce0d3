"""Pages, figures and the README's tables, from the results of all protocols."""
