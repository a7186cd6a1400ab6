"""What is trained: architectures, tasks and weights; the one place in common that imports torch."""
