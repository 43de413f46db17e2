"""Import of pairs from anywhere: matched, cropped, resized and written as VIS and NIR."""
