"""Pictures in and pictures or labels out: reading, tiling, restoring, classifying."""
