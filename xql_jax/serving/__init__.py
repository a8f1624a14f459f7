"""A web server that shows a report while its runs go on, to this machine only."""
