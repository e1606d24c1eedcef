"""What is read: documents of corpora, rows of files, windows as batches of tokens, and the byte unigram beside them."""
