"""What `installing.install` puts where a node finds it, under the name `known_vectors`."""
