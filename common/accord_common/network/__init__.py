"""How a party reaches the others: settings, routes, tunnels, and what a failure is called."""
