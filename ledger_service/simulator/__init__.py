"""Traffic of our own: seeded customers and payments, planted findings, their answer key."""
