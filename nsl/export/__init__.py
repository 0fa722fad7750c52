"""Results to take home: files for other programs, and maps to print."""
