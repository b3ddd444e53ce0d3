"""What protocols are made of: squares, regions, scores of masks, areas."""
