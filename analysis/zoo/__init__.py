"""Small language models of five architectures, trained alike so that what differs between them is the architecture."""
