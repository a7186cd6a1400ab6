"""What the registry's and the node's pages share: files, templates, languages, live updates."""
