"""What methods and maps cost: time, memory, FLOPs."""
