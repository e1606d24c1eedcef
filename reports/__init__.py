"""From notebooks to PDF and HTML; the command line is in `reports.cli`."""
