"""What is for sale: the config's models and the providers' lists, fetched or remembered."""
