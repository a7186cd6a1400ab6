"""The Flower app that stock_flower.py measures."""
