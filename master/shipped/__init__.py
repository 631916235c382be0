"""Files of the checkout that the master sends to workers: links to where people look for them."""
