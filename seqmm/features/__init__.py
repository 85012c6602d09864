"""Item features from raw texts and images: sentences, image keywords, pooled backbone vectors."""
