"""The computer: its cores, its disk, processes of their own, and how far long work is."""
