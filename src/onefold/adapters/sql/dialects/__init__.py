"""What differs between the databases; everything else is shared."""
