"""Small language models of four architectures, trained alike so that what differs between them is the architecture."""
