"""Running, resuming, timing, statistics and tables, once for all protocols."""
