"""Images and annotations → `Sample`: COCO and Pascal VOC from disk, and the procedural phantom."""
