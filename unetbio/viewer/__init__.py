"""Look at the results of a run in a browser, and correct masks by hand: a page that only this machine can reach."""
