"""From an item's text to its identifier: text, embedding, RQ-KMeans, the item index."""
