"""Models and limits that need the leads, or their long waves, only."""
