"""Results: frozen, with tables, and stored with everything needed to get them again."""
