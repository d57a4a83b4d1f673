"""The virtual machine monitor."""
