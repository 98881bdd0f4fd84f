"""Who wrote which essay: rosters, suggested authors, teachers' decisions."""
